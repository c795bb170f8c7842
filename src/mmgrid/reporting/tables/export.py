"""Writes a table as CSV, for further computation, and as LaTeX, for a paper.

The CSV has every digit, the bounds as columns, and the rows of all groups and phases. The LaTeX (booktabs) has what
the page shows: one group of users, rounded, bold where the page is bold.
"""

import re

import polars as pl
import polars.selectors as cs

from mmgrid.reporting.tables.numbers import MINUS
from mmgrid.reporting.tables.table import Column, Table, nan_to_null

_LATEX = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    MINUS: "$-$",
    "–": "--",
    "λ": r"$\lambda$",
    "α": r"$\alpha$",
    "Θ": r"$\Theta$",
    "τ": r"$\tau$",
    "·": r"$\cdot$",
    "λ̂": r"$\hat\lambda$",
    "λ̃": r"$\tilde\lambda$",
    "ρ": r"$\rho$",
    "|": r"\textbar{}",
    "’": "'",
    "×": r"$\times$",
    "⁻": "$^-$",
    "⁽": "$^($",
    "⁾": "$^)$",
    **{digit: f"$^{place}$" for place, digit in enumerate("⁰¹²³⁴⁵⁶⁷⁸⁹")},
}
_SPECIAL = re.compile("|".join(re.escape(character) for character in sorted(_LATEX, key=len, reverse=True)))


def to_csv(table: Table) -> str:
    """Every row, column and digit of the table, with a header line; missing numbers are empty fields."""
    names = [*(["group"] if table.groups else []), *table.csv_only]
    for column in table.columns:
        names += [name for name in (column.name, column.low, column.high) if name]
    rows = table.frame if table.export is None else table.export
    frame = nan_to_null(rows.select(name for name in dict.fromkeys(names) if name in rows.columns))
    return frame.with_columns(cs.string().map_elements(_safe_field, return_dtype=pl.String)).write_csv()


def to_latex(table: Table, group: str = "", minor: bool = False) -> str:
    """A `table` environment with the shown rows of one group of users; needs `booktabs`."""
    frame = table.select(group, minor=minor)
    best = table.best_values(frame)
    caption = f"{table.caption} Users: {group.replace('_', '-')}." if group and table.groups else table.caption
    lines = [
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{escape_latex(caption)}}}",
        rf"\label{{tab:{re.sub('[^a-zA-Z0-9]+', '-', table.id)}}}",
        rf"\begin{{tabular}}{{{''.join('r' if column.numeric else 'l' for column in table.columns)}}}",
        r"\toprule",
        " & ".join(escape_latex(column.label) for column in table.columns) + r" \\",
        r"\midrule",
    ]
    block: object = None
    for place, row in enumerate(frame.iter_rows(named=True)):
        if table.block and place and row[table.block] != block:
            lines.append(r"\midrule")
        block = row.get(table.block)
        fields = [_latex_field(column, row, table.is_bold(column, row, best)) for column in table.columns]
        lines.append(" & ".join(fields) + r" \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", r"\end{table}", ""])


def escape_latex(text: str) -> str:
    """The text with every character escaped that LaTeX would interpret."""
    return _SPECIAL.sub(lambda match: _LATEX[match[0]], text)


def _latex_field(column: Column, row: dict[str, object], bold: bool) -> str:
    text = escape_latex(column.text(row[column.name]))
    if bold:
        text = rf"\textbf{{{text}}}"
    interval = column.interval(row)
    return rf"{text} {{\scriptsize {escape_latex(interval)}}}" if interval else text


def _safe_field(text: str) -> str:
    """Spreadsheets evaluate a field that starts like a formula; an apostrophe keeps it text."""
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\r")) else text
