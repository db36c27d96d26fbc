"""Tables 4.1-4.6 and 4.12 of Gul's thesis (one network each), and 4.7, which counts their wins."""

from seglab.tables import marks
from seglab.tables.layout import Cell, Sheet, winners
from seglab.tables.measured import Cellname, Measured, noise
from seglab.tables.published import (
    DATASETS,
    ENCODERS,
    EXPERIMENTS,
    LOSSES,
    METRICS,
    MODELS,
    OURS,
    Published,
    printed,
)
from seglab.tables.verdict import COUNT, PERCENT, SCORE

SCORES = ("biou", "iou", "dice")
HALVES = {  # data set: split, metrics
    "cityscapes": ("val", (*SCORES, "superiority_biou")),
    "celebamask_hq": ("test", SCORES),
}
Halves = dict[str, tuple[str, tuple[str, ...]]]
SUPERIORITY = "Superiority: share of epochs with the best validation bIoU of the six; ties share."


def grid_sheets(published: Published, measured: Measured) -> list[Sheet]:
    """Tables 4.1-4.6 and 4.12, published and measured."""
    rows = published["dist_thesis"]
    sheets = []
    for table, (model, encoder, seed) in EXPERIMENTS.items():
        strings = printed(rows[rows["table"] == table], "loss", "dataset", "metric")
        title = f"Gul 2023, Table {table}: {MODELS[model]} with {ENCODERS[encoder]}, seed {seed}"
        sheets.append(_sheet(table, title, model, encoder, seed, HALVES, strings, measured))
    return sheets


def grid_sheets_of(dataset: str, measured: Measured) -> list[Sheet]:
    """The same tables of a data set that the thesis does not have: nothing is published there."""
    halves: Halves = {dataset: (measured.test_split[dataset], HALVES["cityscapes"][1])}
    sheets = []
    for table, (model, encoder, seed) in EXPERIMENTS.items():
        if seed == 42 and (model, encoder) in measured.networks(dataset):
            title = f"{dataset}, as Table {table}: {MODELS[model]} with {ENCODERS[encoder]}"
            name = f"{dataset}_{table}"
            sheets.append(_sheet(name, title, model, encoder, None, halves, {}, measured))
    return sheets


def _sheet(
    name: str,
    title: str,
    model: str,
    encoder: str,
    seed: int | None,  # None: the mean over all seeds
    halves: Halves,
    strings: dict[tuple[str, ...], dict[str, str]],
    measured: Measured,
) -> Sheet:
    losses = losses_of(halves, model, encoder, measured)
    cells = {}
    columns = {}
    tested: dict[str, list[marks.Column]] = {dataset: [] for dataset in halves}
    for dataset, (split, metrics) in halves.items():
        seeds = measured.seeds(dataset) if seed is None else [seed]
        names = {
            loss: [Cellname(dataset, model, encoder, loss, each) for each in seeds]
            for loss in losses
        }
        group = {
            loss: [measured.readings[name] for name in runs if name in measured.readings]
            for loss, runs in names.items()
        }
        for metric in metrics:
            column = f"{dataset}:{metric}"
            columns[column] = METRICS[metric]
            told = {}
            if metric in marks.METRICS:
                tested[dataset].append(marks.column(group, split, metric, measured.convention))
                told = tested[dataset][-1].told
            for loss in losses:
                if metric == "superiority_biou" and loss not in LOSSES:
                    continue  # a share of the epochs of the six
                run = Cellname(dataset, model, encoder, loss, seed or 0)
                all_seeds = measured.over_seeds(run, split, metric)
                if seed is None:
                    value = sum(all_seeds) / len(all_seeds) if all_seeds else None
                else:
                    value = measured.value(run, split, metric)
                row = strings.get((loss, dataset, metric), {})
                cells[loss, column] = Cell(
                    published=row.get("value", ""),
                    delta=row.get("printed_delta", ""),
                    bold=row.get("printed_bold") == "true",
                    measured=value,
                    noise=noise(all_seeds),
                    kind=PERCENT if metric == "superiority_biou" else SCORE,
                    contest=column,
                    ours=(OURS, column),
                    plus_minus=seed is None,
                    told=told.get(loss),
                )
    shown = {**DATASETS, **{d: d for d in halves if d not in DATASETS}}
    return Sheet(
        name=name,
        title=title + ".",
        corner="Loss Functions",
        rows=losses,
        columns=columns,
        cells=cells,
        heads=[[(shown[d], len(metrics)) for d, (_, metrics) in halves.items()]],
        source="Aggregation: the text says over the whole data set, mean over classes; its "
        "CelebAMask-HQ numbers cannot be that (audit.md). Split: Cityscapes val, CelebAMask-HQ "
        f"test; one seed ({seed}), no plus-minus. In brackets: ours minus this.",
        facts=[*facts(halves, seed, measured), "In brackets: ours minus this.", SUPERIORITY],
        marks=marks.sentences(tested, "Superiority"),
        command=command(halves, f"model={model} encoder={encoder}", seed, measured),
    )


def losses_of(halves: Halves, model: str, encoder: str, measured: Measured) -> dict[str, str]:
    """The six of the thesis; of other data sets also what else this network ran with."""
    ran = {
        name.loss
        for name in measured.scores
        if name.dataset in set(halves) - set(DATASETS)
        and (name.model, name.encoder, name.fold) == (model, encoder, None)
    }
    return LOSSES | {loss: loss for loss in sorted(ran - set(LOSSES))}


def facts(halves: Halves, seed: int | None, measured: Measured) -> list[str]:
    """Sentences of a caption: convention, splits, seeds, plus-minus, what was left out."""
    splits = ", ".join(f"{dataset} {split}" for dataset, (split, _) in halves.items())
    said = [measured.convention.sentence(), f"Split: {splits}."]
    for dataset in halves:
        seeds = measured.seeds(dataset)
        listed = ", ".join(map(str, seeds)) or "none"
        said.append(f"Seeds run on {dataset}: {len(seeds)} ({listed}).")
        if measured.left_out[dataset]:
            said.append(
                f"{measured.left_out[dataset]} further runs on {dataset} have another protocol "
                "or fill a cell twice, and are left out."
            )
    if seed is None:
        said.append("Cells are means over the seeds; +- is their standard deviation (ddof 1).")
    else:
        said.append(f"Cells are of seed {seed}; noise is the standard deviation over seeds.")
    return said


def command(halves: Halves, choices: str, seed: int | None, measured: Measured) -> str:
    """What makes the runs of all six losses."""
    losses = f"loss={','.join(LOSSES)}"
    if not set(halves) <= set(DATASETS):
        return " ".join(measured.command(dataset, f"{choices} {losses}") for dataset in halves)
    return "; ".join(
        f"`python train.py -m experiment=thesis_{dataset} dataset.root=... {choices} seed={seed} "
        f"{losses}`"
        for dataset in halves
    )


def wins_sheet(published: Published, grid: list[Sheet], measured: Measured) -> Sheet:
    """Table 4.7: in how many of the seven experiments each loss is best."""
    strings = printed(published["dist_thesis_wins"], "loss", "dataset", "metric")
    title = "Gul 2023, Table 4.7: in how many of the seven experiments each loss is the best."
    return _wins("4.7", title, HALVES, strings, grid, len(EXPERIMENTS), measured)


def wins_sheet_of(dataset: str, grid: list[Sheet], measured: Measured) -> Sheet:
    """Table 4.7 of another data set, over the networks whose six losses have all run."""
    halves: Halves = {dataset: (measured.test_split[dataset], HALVES["cityscapes"][1])}
    title = f"{dataset}, as Table 4.7: in how many networks each loss is the best."
    return _wins(f"{dataset}_4.7", title, halves, {}, grid, 1, measured)


def _wins(
    name: str,
    title: str,
    halves: Halves,
    strings: dict[tuple[str, ...], dict[str, str]],
    grid: list[Sheet],
    needed: int,
    measured: Measured,
) -> Sheet:
    best = [winners(sheet.cells) for sheet in grid]
    losses = {loss: shown for sheet in grid for loss, shown in sheet.rows.items()}
    cells, columns, decided = {}, {}, {}
    for dataset, (_, metrics) in halves.items():
        for metric in metrics:
            column = f"{dataset}:{metric}"
            columns[column] = METRICS[metric]
            decided[column] = sum(any(key[1] == column for key in found) for found in best)
            for loss in losses:
                row = strings.get((loss, dataset, metric), {})
                wins = sum((loss, column) in found for found in best)
                cells[loss, column] = Cell(
                    published=row.get("wins", ""),
                    bold=row.get("printed_bold") == "true",
                    measured=float(wins) if decided[column] >= needed else None,
                    kind=COUNT,
                    contest=column,
                )
    names = {**DATASETS, **{d: d for d in halves if d not in DATASETS}}
    return Sheet(
        name=name,
        title=title,
        corner="Loss Functions",
        rows=losses,
        columns=columns,
        cells=cells,
        heads=[[(names[d], len(metrics)) for d, (_, metrics) in halves.items()]],
        source="Over Tables 4.1-4.6 and 4.12: their aggregation, splits and seeds. No plus-minus.",
        facts=[
            *facts(halves, None, measured)[:-1],
            f"Counted over {_counted(decided, names)} of {len(grid)} experiments; "
            f"a column is filled when all six losses of {needed} or more have run. "
            "A tie counts for each. No plus-minus: a count.",
            *_incomplete(grid, halves, filled=min(decided.values()) >= needed),
        ],
        marks=marks.none("a count of wins has no such test"),
        command=_commands(grid, halves),
    )


def _counted(decided: dict[str, int], names: dict[str, str]) -> str:
    """'5', or where the columns differ 'nuclei 5 (IoU 4)': experiments that are decided."""
    if len(set(decided.values())) == 1:
        return str(next(iter(decided.values())))
    said = []
    for dataset in dict.fromkeys(column.partition(":")[0] for column in decided):
        of = {c.partition(":")[2]: n for c, n in decided.items() if c.startswith(f"{dataset}:")}
        most = max(of.values())
        others = [f"{METRICS[metric]} {n}" for metric, n in of.items() if n != most]
        said.append(f"{names[dataset]} {most}" + f" ({', '.join(others)})" * bool(others))
    return ", ".join(said)


def _incomplete(grid: list[Sheet], halves: Halves, *, filled: bool) -> list[str]:
    """Which networks lack which losses; with the command where no cell of the table is missing."""
    said = []
    for sheet in grid:
        model, encoder, _ = EXPERIMENTS[sheet.name.rpartition("_")[2]]
        for dataset in halves:
            lacking = _lacking(sheet, dataset)
            some = f" (lacks {', '.join(lacking)})" * (len(lacking) < len(sheet.rows))
            where = f"{dataset}, " * (len(halves) > 1) + f"Table {sheet.name}"
            network = f"{where}, {MODELS[model]} & {ENCODERS[encoder]}{some}"
            said += [network] * bool(lacking)
    if not said or not any(cell.measured is not None for s in grid for cell in s.cells.values()):
        return []
    fill = [f"To complete: {_commands(grid, halves)}."] * filled
    return [f"Incomplete, and not counted: {'; '.join(said)}.", *fill]


def _commands(grid: list[Sheet], halves: Halves) -> str:
    lacking = [sheet for sheet in grid if any(_lacking(sheet, dataset) for dataset in halves)]
    return "; ".join(dict.fromkeys(sheet.command for sheet in lacking))


def _lacking(sheet: Sheet, dataset: str) -> list[str]:
    """The losses without a score, as the rows call them."""
    return [
        shown
        for loss, shown in sheet.rows.items()
        if any(sheet.cells[loss, f"{dataset}:{metric}"].measured is None for metric in SCORES)
    ]
