"""The report as one HTML page that needs nothing else."""

from __future__ import annotations

from xnets.reproduce._cells import columns
from xnets.reproduce._markdown import LEGEND, reasons
from xnets.reproduce._picture import curves_svg
from xnets.reproduce.report import Report

_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Deep Expander Networks: printed, counted, trained</title>
<style>
  body { font: 15px/1.5 system-ui, sans-serif; color: #1d2733; background: #fff;
         max-width: 84rem; margin: 2rem auto; padding: 0 1rem; }
  h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 3rem; }
  nav { columns: 22rem; margin: 1rem 0; } nav a { display: block; }
  a { color: #0b5cad; }
  p, li { max-width: 60rem; }
  .wide { overflow-x: auto; }
  table { border-collapse: collapse; font-size: 13.5px; font-variant-numeric: tabular-nums; }
  th, td { padding: .28rem .6rem; border-bottom: 1px solid #dde3ea; text-align: left;
           white-space: nowrap; vertical-align: top; }
  td:last-child { white-space: normal; min-width: 22rem; }
  thead th { white-space: normal; vertical-align: bottom; border-bottom: 2px solid #8a97a6;
             font-weight: 600; }
  td.number, th.number { text-align: right; }
  td.off { background: #fdecc8; }
  td.ours { background: #e2f3e4; }
  tr.other { color: #6a7683; }
  code { font-size: 12.5px; user-select: all; }
  svg { max-width: 100%; height: auto; }
</style>
</head>
<body>
<h1>Deep Expander Networks: printed, counted, trained</h1>
<p>{{ legend }}</p>
<nav>
{% for section in sections %}<a href="#{{ section.key }}">{{ section.title }}</a>
{% endfor %}</nav>
{% for section in sections %}
<h2 id="{{ section.key }}">{{ section.title }}</h2>
{% if section.note %}<p>{{ section.note }}</p>{% endif %}
{% if section.picture %}{{ section.picture | safe }}{% endif %}
<div class="wide"><table>
<thead><tr>
{% for column in section.columns %}<th{% if column.is_number %} class="number"{% endif %}>
{{- column.title }}</th>{% endfor %}<th>command</th>
</tr></thead>
<tbody>
{% for line in section.lines %}{% set row = loop.index0 %}
<tr{% if not line.row.model %} class="other"{% endif %}>
{% for column in section.columns %}{% set text = column.texts[row] %}
<td class="{% if column.is_number %}number{% endif %}
{%- if text.endswith("*") %} off{% endif %}
{%- if column.title == "ours" and text %} ours{% endif %}">{{ text }}</td>
{% endfor %}
<td>{% if line.row.command %}<code>{{ line.row.command }}</code>{% endif %}</td>
</tr>
{% endfor %}</tbody>
</table></div>
{% if section.reasons %}<ul>
{% for labels, reason in section.reasons %}<li>{{ labels | join(", ") }}: {{ reason }}.</li>
{% endfor %}</ul>{% endif %}
{% endfor %}
</body>
</html>
"""


def to_html(report: Report) -> str:
    """Write a report as a page, with a picture of each figure's curves.

    Args:
        report: The report.

    Returns:
        The page.

    Examples:
        >>> from xnets.reproduce import make_report
        >>> to_html(make_report(["table-1"])).count("<table")
        1
    """
    from jinja2 import Environment

    sections = [
        {
            "key": table.key,
            "title": table.title,
            "note": table.note,
            "columns": columns(table, lines),
            "lines": lines,
            "reasons": reasons(lines),
            "picture": curves_svg(lines),
        }
        for table, lines in report.sections
    ]
    page = Environment(autoescape=True, trim_blocks=True).from_string(_PAGE)
    return page.render(
        legend=LEGEND.format(report.runs_folder),
        sections=sections,
    )
