"""Tables A.1-A.6 (one loss each, five folds) and 4.11 (their averages) of Gul's thesis."""

from seglab.tables import marks
from seglab.tables.grid import SCORES
from seglab.tables.layout import Cell, Sheet
from seglab.tables.measured import Cellname, Measured, noise
from seglab.tables.published import LOSSES, METRICS, Published, printed

FOLDS = range(1, 6)
NETWORK = ("celebamask_hq", "unet", "resnet50")
SEED = 42
ROWS = {
    **{f"fold{fold}": f"Fold-{fold}" for fold in FOLDS},
    "avg": "Average",
    "std": "Standard Deviation",
}
TABLES = {f"A.{i}": loss for i, loss in enumerate(LOSSES, 1)}


def crossval_sheets(published: Published, measured: Measured) -> list[Sheet]:
    """4.11, then A.1-A.6."""
    strings = printed(published["dist_thesis_crossval"], "table", "loss", "stat", "fold", "metric")
    numbers = {
        (loss, metric): _folds(loss, metric, measured) for loss in LOSSES for metric in SCORES
    }
    common = {
        "source": "Split: test of five folds, 70/10/20; one seed (42). Standard deviation: over "
        "the folds, ddof 1 (audit.md). Aggregation as in Table 4.2.",
        "facts": [
            measured.convention.sentence(),
            "Split: celebamask_hq test, five folds of 70/10/20; "
            f"n seeds: 1 ({SEED}). Average and standard deviation (ddof 1) are over the folds, and "
            "stand where all five have run.",
        ],
        "marks": marks.none(
            "each fold has other test images and a network trained again on images that the folds "
            "share, for which no test is made"
        ),
        "command": "`python train.py -m experiment=crossval dataset.root=...`",
    }
    sheets = [_summary(strings, numbers, common)]
    for table, loss in TABLES.items():
        cells = {}
        for row in ROWS:
            stat, fold = ("fold", row[4:]) if row.startswith("fold") else (row, "")
            for metric in SCORES:
                line = strings[table, loss, stat, fold, metric]
                cells[row, metric] = _cell(line, numbers[loss, metric], row, contest="")
        sheets.append(
            Sheet(
                name=table,
                title=f"Gul 2023, Table {table}: U-Net with ResNet-50 on CelebAMask-HQ, five "
                f"folds, loss {LOSSES[loss]}.",
                corner="5-Folds",
                rows=ROWS,
                columns={metric: METRICS[metric] for metric in SCORES},
                cells=cells,
                heads=[[("Evaluation Metrics", len(SCORES))]],
                **common,
            )
        )
    return sheets


def _summary(strings: dict, numbers: dict, common: dict) -> Sheet:
    cells = {
        (loss, f"{metric}:{stat}"): _cell(
            strings["4.11", loss, stat, "", metric],
            numbers[loss, metric],
            stat,
            contest=f"{metric}:{stat}",
        )
        for loss in LOSSES
        for metric in SCORES
        for stat in ("avg", "std")
    }
    return Sheet(
        name="4.11",
        title="Gul 2023, Table 4.11: U-Net with ResNet-50 on CelebAMask-HQ, average and standard "
        "deviation of five folds.",
        corner="Loss Functions",
        rows=LOSSES,
        columns={
            f"{metric}:{stat}": {"avg": "Avg.", "std": "Std."}[stat]
            for metric in SCORES
            for stat in ("avg", "std")
        },
        cells=cells,
        heads=[[(METRICS[metric], 2) for metric in SCORES]],
        **common,
    )


def _folds(loss: str, metric: str, measured: Measured) -> dict[str, float | None]:
    """Row of A.1-A.6 -> measured value; `noise` is the deviation, once there are two folds."""
    dataset, model, encoder = NETWORK
    found: dict[str, float | None] = {
        f"fold{fold}": measured.score(
            Cellname(dataset, model, encoder, loss, SEED, fold), "test", metric
        )
        for fold in FOLDS
    }
    values = [value for value in found.values() if value is not None]
    whole = len(values) == len(FOLDS)
    found["noise"] = noise(values)
    found["avg"] = sum(values) / len(values) if whole else None
    found["std"] = found["noise"] if whole else None
    return found


def _cell(line: dict[str, str], numbers: dict[str, float | None], row: str, contest: str) -> Cell:
    return Cell(
        published=line["value"],
        bold=line["printed_bold"] == "true",
        measured=numbers[row],
        noise=None if row == "std" else numbers["noise"],
        contest=contest,
        lower=row == "std",
    )
