"""The paper's tables and figures: what is printed, what is counted, what was trained here."""

from xnets.reproduce.tables import TABLES as TABLES
from xnets.reproduce.tables import Row as Row
from xnets.reproduce.tables import Table as Table
from xnets.reproduce.tables import get_table as get_table
from xnets.reproduce.tables import list_tables as list_tables
