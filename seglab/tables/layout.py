"""What a table is before it is drawn: rows and columns as its source has them, cells twice filled.

A sheet holds for each cell the printed string and the measured number. A form - published,
measured, compared - says which of the two is shown, and how.
"""

import math
from collections import defaultdict
from dataclasses import dataclass, field

from seglab.tables.verdict import RULE, SCORE, Kind, difference, number, verdict

FORMS = ("published", "measured", "compared")
SAME = "\N{DAGGER}"  # after a number that cannot be told from the best of its column
Key = tuple[str, str]  # row, column


@dataclass(frozen=True)
class Told:
    """What a test said of a number beside the best of its column.

    Args:
        verdict: best | same | apart. p: adjusted; None for the best itself.
    """

    verdict: str
    p: float | None


@dataclass(frozen=True)
class Cell:
    """One number.

    Args:
        published: as printed; empty where nothing is printed.
        delta: the printed bracket.
        bold: whether it is printed bold.
        measured: from runs of one's own; None where there is none.
        noise: standard deviation of `measured` over seeds or folds, where there are two or more.
        contest: cells of the same contest compete for the bold type; empty: none.
        lower: whether the lowest wins.
        ours: whose value minus this one stands in the brackets; None: no brackets.
        wrap: how the printed string is dressed.
        never: what stands for a number that was looked for and does not exist.
        plus_minus: whether `noise` is shown beside the measured value.
        told: of the measured number; None where there was no test.
        unit_known: whether the source says the unit of the printed number; where it does not,
            neither a difference nor a verdict can be had.
    """

    published: str = ""
    delta: str = ""
    bold: bool = False
    measured: float | None = None
    noise: float | None = None
    kind: Kind = SCORE
    contest: str = ""
    lower: bool = False
    ours: Key | None = None
    wrap: str = "{}"
    never: str = ""
    plus_minus: bool = False
    told: Told | None = None
    unit_known: bool = True

    @property
    def printed_number(self) -> float | None:
        """The published number; inf for an epoch that was never reached."""
        if not self.published and self.never:
            return math.inf
        return number(self.published)


@dataclass(frozen=True)
class Shown:
    """A cell as it is drawn."""

    text: str
    subscript: str = ""
    bold: bool = False


@dataclass(frozen=True)
class Sheet:
    """One table.

    Args:
        name: of the files; `title` is the first line of the caption.
        heads: heading rows above the columns' own names: (text, columns spanned).
        corner: what the row labels are; `rows` and `columns` are label by key.
        source: what the source says of its numbers: aggregation, split, seeds, plus-minus.
        facts: the same of the measured cells.
        marks: what a mark behind a measured number means, or why there is none; empty where nothing
            was trained.
        command: makes the missing cells.
    """

    name: str
    title: str
    corner: str
    rows: dict[str, str]
    columns: dict[str, str]
    cells: dict[Key, Cell]
    heads: list[list[tuple[str, int]]] = field(default_factory=list)
    source: str = ""
    facts: list[str] = field(default_factory=list)
    marks: str = ""
    command: str = ""

    def caption(self, form: str) -> str:
        """Title, form, and for measured numbers all that they depend on."""
        if form == "published":
            return f"{self.title} Published, as printed. {self.source}".rstrip()
        filled = sum(cell.measured is not None for cell in self.cells.values())
        said = {
            "measured": "Measured.",
            "compared": "Published / measured / difference and verdict.",
        }[form]
        parts = [self.title, said, f"{filled} of {len(self.cells)} cells measured.", *self.facts]
        if form == "compared":
            parts.append(RULE)
        elif self.marks and filled:
            parts.append(self.marks)
        if filled < len(self.cells):
            parts.append(f"Missing cells: {self.command}")
        return " ".join(parts)

    def is_published(self) -> bool:
        """Whether any cell holds a printed number."""
        return any(cell.published for cell in self.cells.values())

    def show(self, form: str) -> dict[Key, Shown]:
        """Every cell in one of FORMS."""
        if form == "published":
            return {key: _published(cell) for key, cell in self.cells.items()}
        if form == "measured":
            best = winners(self.cells)
            return {key: self._measured(key, wins=key in best) for key in self.cells}
        assert form == "compared", form
        return {key: _compared(cell) for key, cell in self.cells.items()}

    def _measured(self, key: Key, *, wins: bool) -> Shown:
        cell = self.cells[key]
        subscript = ""
        if cell.ours is not None and cell.ours != key and cell.measured is not None:
            ours = self.cells[cell.ours].measured
            if ours is not None:
                subscript = bracket(ours - cell.measured, cell.kind)
        same = cell.told is not None and cell.told.verdict == "same"
        return Shown(_value(cell) + SAME * same, subscript, wins)


def winners(cells: dict[Key, Cell]) -> set[Key]:
    """The cells with the best measured number of their contest, ties included.

    A contest with a cell that was not run has no winner yet; neither has one that nobody reached.
    """
    contests: dict[str, list[Key]] = defaultdict(list)
    for key, cell in cells.items():
        if cell.contest:
            contests[cell.contest].append(key)
    found = set()
    for keys in contests.values():
        values = [cells[key].measured for key in keys]
        if any(value is None or math.isnan(value) for value in values):
            continue
        best = (min if cells[keys[0]].lower else max)(values)
        if math.isfinite(best):
            found |= {key for key, value in zip(keys, values, strict=True) if value == best}
    return found


def bracket(value: float, kind: Kind) -> str:
    """0.0769 -> '(+0.0769)', and zero without a sign, as the thesis prints its differences."""
    text = signed(value, kind)
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return "(0)" if float(text) == 0 else f"({text})"


def signed(value: float, kind: Kind) -> str:
    """'+0.0094'; what rounds to zero is +0."""
    return f"{round(value, kind.digits) + 0.0:+.{kind.digits}f}"


def _published(cell: Cell) -> Shown:
    text = cell.wrap.format(cell.published) if cell.published else cell.never
    return Shown(text, cell.delta, cell.bold)


def _value(cell: Cell) -> str:
    if cell.measured is None:
        return ""
    if math.isinf(cell.measured):
        return cell.never
    text = f"{cell.measured:.{cell.kind.digits}f}"
    if cell.plus_minus and cell.noise is not None:
        text += f" +- {cell.noise:.{cell.kind.digits}f}"
    return cell.wrap.format(text)


def _compared(cell: Cell) -> Shown:
    """'0.5008 / 0.5102 / +0.0094 contradicted'."""
    gap = gap_of(cell)
    said = "" if gap is None or math.isinf(gap) else f"{signed(gap, cell.kind)} "
    printed = _published(cell).text
    return Shown(f"{printed or 'n/a'} / {_value(cell) or 'n/a'} / {said}{judged(cell)}")


def gap_of(cell: Cell) -> float | None:
    """measured - published, where there are both, in a unit that is known."""
    printed = cell.printed_number
    if printed is None or cell.measured is None or not cell.unit_known:
        return None
    return difference(printed, cell.measured)


def judged(cell: Cell) -> str:
    """The verdict on a cell; an empty cell of a published table was not published."""
    if not cell.unit_known and cell.printed_number is not None and cell.measured is not None:
        return "unit not stated"
    return verdict(cell.printed_number, cell.measured, cell.noise, cell.kind)
