"""The paper's tables and figures: what is printed, what is counted, what was trained here."""

from xnets.reproduce._html import to_html as to_html
from xnets.reproduce._markdown import to_markdown as to_markdown
from xnets.reproduce._terminal import print_report as print_report
from xnets.reproduce.report import Line as Line
from xnets.reproduce.report import Report as Report
from xnets.reproduce.report import make_report as make_report
from xnets.reproduce.tables import TABLES as TABLES
from xnets.reproduce.tables import Row as Row
from xnets.reproduce.tables import Table as Table
from xnets.reproduce.tables import get_table as get_table
from xnets.reproduce.tables import list_tables as list_tables
