"""Tables 4.9 and 4.10 of Gul's thesis: the first epoch whose bIoU reaches a threshold."""

import math

from seglab.tables import marks
from seglab.tables.grid import HALVES, command, facts
from seglab.tables.layout import Cell, Sheet
from seglab.tables.measured import Cellname, Measured
from seglab.tables.published import ENCODERS, EXPERIMENTS, LOSSES, MODELS, Published, printed
from seglab.tables.verdict import COUNT

TABLES = {"4.9": ("celebamask_hq", 0.72), "4.10": ("cityscapes", 0.47)}
NEVER = "-"
COLUMNS = {**LOSSES, "ce": "CE"}


def convergence_sheets(published: Published, measured: Measured) -> list[Sheet]:
    """Both tables."""
    rows = published["dist_thesis_convergence"]
    sheets = []
    for table, (dataset, threshold) in TABLES.items():
        chosen = rows[rows["table"] == table]
        strings = printed(chosen, "architecture", "encoder", "seed", "loss")
        title = (
            f"Gul 2023, Table {table}: epochs until a validation bIoU of {threshold:g} on "
            f"{dataset}. ** is the experiment with seed 1234."
        )
        sheets.append(_sheet(table, title, dataset, threshold, EXPERIMENTS, strings, measured))
    return sheets


def convergence_sheet_of(dataset: str, measured: Measured, threshold: float | None) -> Sheet:
    """The same of another data set."""
    threshold = target(dataset, measured, threshold)
    rows = {
        f"{table}/{seed}": (model, encoder, seed)
        for seed in measured.seeds(dataset)
        for table, (model, encoder, first) in EXPERIMENTS.items()
        if first == 42 and (model, encoder) in measured.networks(dataset)
    }
    title = f"{dataset}, as Table 4.9: epochs until a validation bIoU of {threshold:g}."
    return _sheet(f"{dataset}_4.9", title, dataset, threshold, rows, {}, measured)


def target(dataset: str, measured: Measured, threshold: float | None) -> float:
    """The bIoU to reach: published, or `threshold`, or 0.9 of the best, rounded down."""
    published = dict(TABLES.values()).get(dataset, threshold)
    if published is not None:
        return published
    curves = [c for n, c in measured.curves.items() if n.dataset == dataset and n.fold is None]
    best = max((float(curve.max()) for curve in curves), default=0.0)
    return math.floor(0.9 * best * 100) / 100 if best == best else 0.0


def _sheet(
    name: str,
    title: str,
    dataset: str,
    threshold: float,
    experiments: dict[str, tuple[str, str, int]],
    strings: dict[tuple[str, ...], dict[str, str]],
    measured: Measured,
) -> Sheet:
    cells, labels = {}, {}
    is_published = bool(strings)
    for row, (model, encoder, seed) in experiments.items():
        mark = "**" if is_published and seed != 42 else ""
        seeds = "" if is_published else f", seed {seed}"
        labels[row] = f"{MODELS[model]} & {ENCODERS[encoder]}{mark}{seeds}"
        for loss in LOSSES:
            run = Cellname(dataset, model, encoder, loss, seed)
            line = strings.get((model, encoder, str(seed), loss), {})
            cells[row, loss] = Cell(
                published=line.get("epochs", ""),
                bold=line.get("bold") == "true",
                measured=measured.convergence(run, threshold),
                kind=COUNT,
                contest=row,
                lower=True,
                never=NEVER,
            )
    halves = {dataset: ("val", HALVES["cityscapes"][1])}
    models, encoders, _ = (dict.fromkeys(part) for part in zip(*experiments.values(), strict=True))
    choices = f"model={','.join(models)} encoder={','.join(encoders)}"
    return Sheet(
        name=name,
        title=title,
        corner="Model & Encoder",
        rows=labels,
        columns=COLUMNS,
        cells=cells,
        heads=[[("Loss Functions", len(LOSSES))]],
        source="Validation split, one seed (42, ** 1234), no plus-minus; -: never reached. "
        "Aggregation as in Tables 4.1-4.6.",
        facts=[
            *facts(halves, 42, measured)[:-1],
            f"{NEVER}: not reached. No plus-minus: one run per cell.",
        ],
        marks=marks.none("an epoch of one run has no such test"),
        command=command(halves, choices, 42, measured)
        + (" and seed=1234 with DeepLabv3+ & ResNet-50." if is_published else ""),
    )
