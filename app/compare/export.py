"""Export a comparison as Markdown, LaTeX, CSV, or one HTML file that opens offline.

Every text is escaped for its format.
"""

from __future__ import annotations

import csv
import html
import io
import re
from collections.abc import Callable, Mapping, Sequence

import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

from app.compare.tables import Cell, Table, TableLine
from app.shared import format
from store import terminal
from store.db.rows import EvaluationRow

Link = Callable[[EvaluationRow], str]
REPORTED = "reported, not measured here"
_LATEX = {
    **{character: f"\\{character}" for character in "&%$#_{}"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "–": "--",
    "—": "---",
    "…": r"\ldots{}",
    # pdfLaTeX stops at these characters.
    "Δ": r"$\Delta$",
    "−": "$-$",
    "×": r"$\times$",
    "±": r"$\pm$",
    "≤": r"$\leq$",
    "≥": r"$\geq$",
    "→": r"$\rightarrow$",
}
_DIFFERENCE = re.compile(r"[+-][\d.]+( \([+-][\d.]+ to [+-][\d.]+\))?")
_MINUS = re.compile(r"(?<![\w.])-(?=\d)")
STYLE = """
.cmp { border-collapse: collapse; width: 100%; font-size: 0.875rem; font-variant-numeric: tabular-nums; }
.cmp th, .cmp td { white-space: nowrap; text-align: left; padding: 0.3rem 0.4rem; border: 0; }
.cmp th { font-weight: 600; border-bottom: 1px solid #8A93A0; }
.cmp td, .cmp th[scope='row'] { font-weight: 400; border-bottom: 1px solid rgba(138, 147, 160, 0.35); }
.cmp .number { text-align: right; }
.cmp tr.reported :is(td, th) { background: repeating-linear-gradient(
  135deg, rgba(138, 147, 160, 0.22) 0 4px, transparent 4px 9px); opacity: 0.85; }
.cmp a { color: inherit; text-decoration: underline dotted; }
.cmp-wide { overflow-x: auto; }
.cmp-note { margin: 0.4rem 0 0; font-size: 0.875rem; opacity: 0.7; }
"""
_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<style>body {{ font-family: sans-serif; max-width: 70rem; margin: 2rem auto; padding: 0 1rem; }}{style}</style>
<script>{library}</script></head>
<body><h1>{title}</h1>
{body}
</body></html>
"""


def rows(table: Table) -> list[list[str]]:
    """Return the cells, with the kind of each line first."""
    return [
        [REPORTED if line.kind == "reported" else "measured", *(c.text for c in line.cells)] for line in table.lines
    ]


def markdown(tables: Sequence[Table]) -> str:
    parts = []
    for table in tables:
        lines = [("", *table.head), ["---"] * (len(table.head) + 1), *rows(table)]
        body = "\n".join(f"| {' | '.join(map(_markdown, line))} |" for line in lines)
        parts.append("\n\n".join([f"## {_markdown(table.title)}", body, *table.notes]))
    return "\n\n".join(parts) + "\n"


def _markdown(text: str) -> str:
    return re.sub(r"([\\`*_~$&\[\]<>|])", r"\\\1", " ".join(text.split()))


def latex(tables: Sequence[Table]) -> str:
    """Return `tabular` environments; they need the booktabs package."""
    parts = []
    for table in tables:
        lines = [" & ".join(map(_latex, line)) + r" \\" for line in [("", *table.head), *rows(table)]]
        columns = "l" * (len(table.head) + 1)
        body = "\n".join([lines[0], r"\midrule", *lines[1:]])
        notes = "".join(f"\n\n\\noindent {_latex(note)}" for note in table.notes)
        parts.append(
            f"% {_latex(table.title)}\n\\begin{{tabular}}{{{columns}}}\n\\toprule\n{body}\n\\bottomrule\n"
            f"\\end{{tabular}}{notes}\n"
        )
    return "\n".join(parts)


def _latex(text: str) -> str:
    return "".join(_LATEX.get(character, character) for character in " ".join(text.split()))


def comma_separated(tables: Sequence[Table]) -> str:
    """Return all tables as CSV, with the table's name in the first column."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    for table in tables:
        writer.writerow(["table", "kind", *map(_without_formula, table.head)])
        writer.writerows([*map(_without_formula, (table.key, *line))] for line in rows(table))
    return stream.getvalue()


def _without_formula(text: str) -> str:
    """Return a cell that a spreadsheet does not take for a formula; a difference with its interval is kept as is."""
    return text if _DIFFERENCE.fullmatch(text) else terminal.unformulaic(text)


def html_table(table: Table, link: Link | None = None) -> str:
    """Return the table with `STYLE`'s classes: measured lines plain, reported ones hatched and labelled.

    Columns without any value are left out.
    """
    looks = {}
    for place in range(len(table.head)):
        texts = [line.cells[place].text for line in table.lines]
        if any(text not in ("", format.UNKNOWN) for text in texts):
            looks[place] = _look(texts)
    titles = "".join(f"<th scope='col'{look}>{html.escape(table.head[place])}</th>" for place, look in looks.items())
    body = "".join(_html_line(line, looks, link) for line in table.lines)
    notes = "".join(f"<p class='cmp-note'>{html.escape(note)}</p>" for note in table.notes)
    head = f"<tr><th scope='col'>Source</th>{titles}</tr>"
    return f"<div class='cmp-wide'><table class='cmp'>{head}{body}</table></div>{notes}"


def _look(texts: Sequence[str]) -> str:
    """Return the attribute that aligns a column of numbers to the right."""
    return " class='number'" if all(map(format.is_number, texts)) else ""


def _html_line(line: TableLine, looks: Mapping[int, str], link: Link | None) -> str:
    label = "reported" if line.kind == "reported" else "measured"
    cells = [f"<td{look}>{_html_cell(line.cells[place], link)}</td>" for place, look in looks.items()]
    if 0 in looks:  # the first column names the line
        cells[0] = f"<th scope='row'{looks[0]}>{_html_cell(line.cells[0], link)}</th>"
    return f"<tr class='{label}'><td>{label}</td>{''.join(cells)}</tr>"


def _html_cell(cell: Cell, link: Link | None) -> str:
    text = html.escape(_MINUS.sub("−", cell.text))
    if link is None or cell.source is None:
        return text
    return f"<a href='{html.escape(link(cell.source))}' title='The predictions behind it'>{text}</a>"


def report(title: str, tables: Sequence[Table], figures: Sequence[tuple[str, go.Figure]], facts: str) -> str:
    """Return one HTML page that opens offline: tables, titled figures, and `facts` as plain text."""
    parts = [f"<h2>{html.escape(table.title)}</h2>{html_table(table)}" for table in tables]
    for name, figure in figures:
        chart_html = figure.to_html(full_html=False, include_plotlyjs=False)
        parts.append(f"<h2>{html.escape(name)}</h2>{chart_html}")
    parts.append(f"<h2>Conditions</h2><pre>{html.escape(facts)}</pre>")
    return _PAGE.format(title=html.escape(title), style=STYLE, library=get_plotlyjs(), body="\n".join(parts))
