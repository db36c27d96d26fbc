"""A sheet as Markdown, LaTeX (booktabs) and CSV."""

import csv
import io
import math

from seglab.tables.layout import FORMS, SAME, Cell, Key, Sheet, Shown, gap_of, judged

ESCAPES = {"&": r"\&", "%": r"\%", "_": r"\_", "#": r"\#", "+-": r"$\pm$", SAME: r"\dag{}"}


def forms_of(sheet: Sheet) -> list[str]:
    """The forms that say something: without a printed number, the measured one alone."""
    return list(FORMS) if sheet.is_published() else ["measured"]


def markdown(sheet: Sheet) -> str:
    """All forms, one under the other. The heading rows above the column names come first."""
    parts = [f"# Table {sheet.name}"]
    for form in forms_of(sheet):
        shown = sheet.show(form)
        rows = [_spread(head) for head in sheet.heads] + [list(sheet.columns.values())]
        lines = [[("" if i < len(rows) - 1 else sheet.corner), *r] for i, r in enumerate(rows)]
        lines += [
            [label, *(_markdown_cell(shown.get((row, column))) for column in sheet.columns)]
            for row, label in sheet.rows.items()
        ]
        text = ["| " + " | ".join(line) + " |" for line in lines]
        text.insert(1, "|" + "---|" * (1 + len(sheet.columns)))
        parts += [f"## {form.capitalize()}", sheet.caption(form), "\n".join(text)]
    return "\n\n".join(parts) + "\n"


def latex(sheet: Sheet) -> str:
    r"""All forms, as one table environment each. Needs \usepackage{booktabs}."""
    return "\n".join(_latex_form(sheet, form) for form in forms_of(sheet))


def tidy_csv(sheet: Sheet) -> str:
    """One line per cell, with the numbers of all forms."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(
        ["table", "row", "column", "published", "published_delta", "published_bold"]
        + ["measured", "measured_std", "difference", "verdict", "against_best", "p_against_best"]
    )
    for row, label in sheet.rows.items():
        for column in sheet.columns:
            cell = sheet.cells.get((row, column))
            if cell is None:
                continue
            writer.writerow(
                [sheet.name, label, column, cell.published, cell.delta, str(cell.bold).lower()]
                + [_exact(value) for value in (cell.measured, cell.noise, gap_of(cell))]
                + [judged(cell), *_against_best(cell)]
            )
    return out.getvalue()


def _against_best(cell: Cell) -> list[str]:
    if cell.told is None:
        return ["", ""]
    return [cell.told.verdict, _exact(cell.told.p)]


def _exact(value: float | None) -> str:
    if value is None or math.isnan(value):
        return ""
    return "never" if math.isinf(value) else f"{value:.6f}"


def _spread(head: list[tuple[str, int]]) -> list[str]:
    return [text if i == 0 else "" for text, span in head for i in range(span)]


def _markdown_cell(shown: Shown | None) -> str:
    if shown is None:
        return ""
    text = f"**{shown.text}**" if shown.bold else shown.text
    return f"{text} <sub>{shown.subscript}</sub>" if shown.subscript else text


def _latex_form(sheet: Sheet, form: str) -> str:
    shown = sheet.show(form)
    lines = [
        r"\begin{table}",
        rf"\caption{{{_escaped(sheet.caption(form))}}}",
        rf"\label{{tab:{sheet.name}:{form}}}",
        rf"\begin{{tabular}}{{l{'r' * len(sheet.columns)}}}",
        r"\toprule",
    ]
    for head in sheet.heads:
        spans = [rf"\multicolumn{{{span}}}{{c}}{{{_escaped(text)}}}" for text, span in head]
        lines.append(" & ".join(["", *spans]) + r" \\")
        start = 2
        for _, span in head:
            lines.append(rf"\cmidrule(lr){{{start}-{start + span - 1}}}")
            start += span
    names = [sheet.corner, *sheet.columns.values()]
    lines += [" & ".join(map(_escaped, names)) + r" \\", r"\midrule"]
    for row, label in sheet.rows.items():
        keys: list[Key] = [(row, column) for column in sheet.columns]
        lines.append(
            " & ".join([_escaped(label), *(_latex_cell(shown.get(key)) for key in keys)]) + r" \\"
        )
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", r"\end{table}"]) + "\n"


def _latex_cell(shown: Shown | None) -> str:
    if shown is None:
        return ""
    text = _escaped(shown.text)
    if shown.bold:
        text = rf"\textbf{{{text}}}"
    return rf"{text} $_{{{shown.subscript}}}$" if shown.subscript else text


def _escaped(text: str) -> str:
    for plain, escaped in ESCAPES.items():
        text = text.replace(plain, escaped)
    return text
