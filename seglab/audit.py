"""Published numbers against other published numbers: what follows from them, recomputed.

Each check counts the cells that held and lists those that did not. Printed numbers are taken as
intervals of half a unit of their last digit, unless both sides are printed: then exactly.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import ROUND_HALF_UP, Decimal

import numpy as np
import pandas as pd

from seglab.tables.published import EXPERIMENTS, LOSSES, OURS, Published, printed
from seglab.tables.table31 import Computed

HALF = 0.00005  # of a score's last digit
EPOCHS = 60
GRID = [str(table) for table in EXPERIMENTS]


@dataclass(frozen=True)
class Finding:
    """A printed number that others contradict."""

    table: str
    cell: str
    printed: str
    recomputed: str
    why: str


@dataclass
class Check:
    """One thing that follows from the published numbers."""

    name: str
    held: int = 0
    findings: list[Finding] = field(default_factory=list)

    def that(self, ok: bool, *finding: str) -> None:  # noqa: FBT001
        """Counts what held, or keeps Finding(*finding)."""
        if ok:
            self.held += 1
        else:
            self.findings.append(Finding(*finding))


def audit(published: Published, computed: Computed) -> list[Check]:
    """All checks, in the order of the sources. `computed`: Table 3.1 by the losses that train."""
    grid = published["dist_thesis"]
    folds = published["dist_thesis_crossval"]
    return [
        table31(published["dist_thesis_table31"], computed),
        table31_dice(published["dist_thesis_table31"]),
        deltas(grid),
        bold(grid),
        wins(grid, published["dist_thesis_wins"]),
        bold_wins(published["dist_thesis_wins"]),
        superiority_epochs(grid),
        superiority_sums(grid),
        superiority_of_the_best(grid),
        reached(grid, published["dist_thesis_convergence"]),
        bold_convergence(published["dist_thesis_convergence"]),
        first_to_reach(grid, published["dist_thesis_convergence"]),
        averages(folds),
        deviations(folds),
        summary(folds),
        bold_folds(folds),
        dice_bounds(grid, folds, published["medical_thesis"]),
        pooled(grid, folds),
        copies(grid),
        claims(grid, folds, published["dist_thesis_convergence"]),
        medical(published["medical_thesis"]),
        caliva(published["distance_map_penalty"]),
        poster_steps(published["cxr_poster"]),
        poster_claims(published["cxr_poster"]),
    ]


# ---------------------------------------------------------------- Table 3.1


def table31(rows: pd.DataFrame, computed: Computed) -> Check:
    """Printed losses against those of the fitted masks."""
    check = Check("Table 3.1: the twelve losses come out of one geometry")
    for row in rows.to_dict("records"):
        value = computed[row["loss"], row["prediction"]]
        cell = f"{row['loss']}, prediction {row['prediction']}"
        check.that(
            abs(value - float(row["value"])) <= 0.0005 + 1e-9,
            *("3.1", cell, row["value"], f"{value:.3f}", "loss of the fitted masks"),
        )
    return check


def table31_dice(rows: pd.DataFrame) -> Check:
    """One binary image: the Dice loss follows from the IoU loss."""
    check = Check("Table 3.1: Dice loss from IoU loss, without any geometry")
    cells = printed(rows, "loss", "prediction")
    for prediction in ("1", "2", "3"):
        iou = 1 - float(cells["iou", prediction]["value"])
        low, high = (1 - dice_of(iou + gap) for gap in (0.0005, -0.0005))
        text = cells["dice", prediction]["value"]
        check.that(
            low - 0.0005 <= float(text) <= high + 0.0005,
            *("3.1", f"dice, prediction {prediction}", text),
            *(f"{low:.4f} to {high:.4f}", "1 - 2J / (1 + J), J = 1 - IoU loss"),
        )
    return check


# ---------------------------------------------------------------- Tables 4.1-4.7, 4.12


def deltas(grid: pd.DataFrame) -> Check:
    """The bracket is ours minus this loss."""
    check = Check("Tables 4.1-4.6, 4.12: bracketed differences, from the two printed values")
    for (table, dataset, metric), rows in columns(grid):
        ours = next(Decimal(r["value"]) for r in rows if r["loss"] == OURS)
        for row in rows:
            if not row["printed_delta"]:
                continue
            value = ours - Decimal(row["value"])
            check.that(
                value == Decimal(row["printed_delta"].strip("()")),
                *(table, f"{row['loss']}, {dataset} {metric}", row["printed_delta"]),
                *(f"({value:+})", "ours minus this"),
            )
    return check


def bold(grid: pd.DataFrame) -> Check:
    """The best of each column is bold, ties included, and nothing else is."""
    check = Check("Tables 4.1-4.6, 4.12: bold is the best of its column, ties included")
    for (table, dataset, metric), rows in columns(grid):
        best = winners(rows)
        marked = [r["loss"] for r in rows if r["printed_bold"] == "true"]
        check.that(
            best == marked,
            *(table, f"{dataset} {metric}", " and ".join(marked) or "none", " and ".join(best)),
            "the highest printed value",
        )
    return check


def wins(grid: pd.DataFrame, table47: pd.DataFrame) -> Check:
    """Table 4.7 counts, for each loss, the columns of the seven experiments that it wins."""
    check = Check("Table 4.7: wins counted in Tables 4.1-4.6 and 4.12, ties for each")
    won: dict[tuple[str, str, str], list[str]] = {}
    for (table, dataset, metric), rows in columns(grid):
        for loss in winners(rows):
            won.setdefault((loss, dataset, metric), []).append(table)
    for row in table47.to_dict("records"):
        tables = won.get((row["loss"], row["dataset"], row["metric"]), [])
        check.that(
            len(tables) == int(row["wins"]),
            *("4.7", f"{row['loss']}, {row['dataset']} {row['metric']}", row["wins"]),
            *(str(len(tables)), f"best in {', '.join(tables) or 'no table'}"),
        )
    return check


def bold_wins(table47: pd.DataFrame) -> Check:
    """The most wins are bold."""
    check = Check("Table 4.7: bold is the most wins of its column")
    for (dataset, metric), part in table47.groupby(["dataset", "metric"], sort=False):
        most = part["wins"].astype(int).max()
        best = list(part.loc[part["wins"].astype(int) == most, "loss"])
        marked = list(part.loc[part["printed_bold"] == "true", "loss"])
        check.that(
            best == marked,
            *("4.7", f"{dataset} {metric}", " and ".join(marked), " and ".join(best)),
            "the most printed wins",
        )
    return check


def superiority_epochs(grid: pd.DataFrame) -> Check:
    """A share of 60 epochs is a whole number of sixtieths; a shared epoch would break it."""
    check = Check("Superiority: each is a whole number of the 60 epochs")
    for row in superiorities(grid):
        value = float(row["value"])
        nearest = round(value * EPOCHS / 100)
        check.that(
            abs(value - nearest * 100 / EPOCHS) <= 0.005 + 1e-9,
            *(row["table"], f"{row['loss']}, superiority_biou", row["value"]),
            *(f"{nearest * 100 / EPOCHS:.2f}", f"{nearest} of {EPOCHS} epochs"),
        )
    return check


def superiority_sums(grid: pd.DataFrame) -> Check:
    """The six add up to all epochs; a tie counted for each would make more."""
    check = Check("Superiority: the six losses add up to 100, within rounding")
    for table, rows in by_table(superiorities(grid)):
        total = sum(Decimal(row["value"]) for row in rows)
        check.that(
            abs(total - 100) <= Decimal("0.005") * len(rows),
            *(table, "sum of superiority_biou", "100", str(total), "60 epochs have 60 winners"),
        )
    return check


def superiority_of_the_best(grid: pd.DataFrame) -> Check:
    """The highest bIoU of all epochs and losses is the highest of its own epoch."""
    check = Check("Superiority: the loss with the highest best bIoU has won an epoch")
    for (table, dataset, metric), rows in columns(grid):
        if (dataset, metric) == ("cityscapes", "biou"):
            shares = {r["loss"]: r["value"] for r in superiorities(grid) if r["table"] == table}
            for loss in winners(rows):
                check.that(
                    float(shares[loss]) > 0,
                    *(table, f"{loss}, superiority_biou", shares[loss], "at least 1.67"),
                    "it has the best bIoU of the table",
                )
    return check


# ---------------------------------------------------------------- Tables 4.9, 4.10


def reached(grid: pd.DataFrame, epochs: pd.DataFrame) -> Check:
    """An epoch stands exactly where the best bIoU is at the threshold or above.

    For Cityscapes both are of the validation set. For CelebAMask-HQ the best is of the test set, so
    there it is a plausibility.
    """
    check = Check("Tables 4.9, 4.10: an epoch exactly where the best bIoU reaches the threshold")
    for row, value in with_biou(grid, epochs):
        is_above = float(value) >= float(row["threshold"])
        check.that(
            is_above == bool(row["epochs"]) and int(row["epochs"] or 1) in range(1, EPOCHS + 1),
            *(row["table"], experiment_of(row) + f", {row['loss']}", row["epochs"] or "-"),
            *("an epoch" if is_above else "-", f"best bIoU {value}, threshold {row['threshold']}"),
        )
    return check


def bold_convergence(epochs: pd.DataFrame) -> Check:
    """The first to arrive is bold."""
    check = Check("Tables 4.9, 4.10: bold is the fewest epochs of its row, ties included")
    for rows in experiments(epochs):
        fastest = min(int(row["epochs"]) for row in rows if row["epochs"])
        best = [row["loss"] for row in rows if row["epochs"] == str(fastest)]
        marked = [row["loss"] for row in rows if row["bold"] == "true"]
        check.that(
            best == marked,
            *(rows[0]["table"], experiment_of(rows[0]), " and ".join(marked), " and ".join(best)),
            "the fewest printed epochs",
        )
    return check


def first_to_reach(grid: pd.DataFrame, epochs: pd.DataFrame) -> Check:
    """Who passes the threshold before all others is the best of that epoch (Cityscapes)."""
    check = Check("Table 4.10: who arrives alone and first has won an epoch (superiority)")
    shares = {(r["table"], r["loss"]): r["value"] for r in superiorities(grid)}
    table_of = {(a, e, str(s)): table for table, (a, e, s) in EXPERIMENTS.items()}
    for rows in experiments(epochs[epochs["dataset"] == "cityscapes"]):
        done = sorted((int(row["epochs"]), row["loss"]) for row in rows if row["epochs"])
        if len(done) == 1 or done[0][0] < done[1][0]:
            row, loss = rows[0], done[0][1]
            table = table_of[row["architecture"], row["encoder"], row["seed"]]
            check.that(
                float(shares[table, loss]) > 0,
                *(table, f"{loss}, superiority_biou", shares[table, loss], "at least 1.67"),
                f"alone above the threshold at epoch {done[0][0]} of Table 4.10",
            )
    return check


# ---------------------------------------------------------------- Tables A.1-A.6, 4.11


def averages(folds: pd.DataFrame) -> Check:
    """The mean of the five printed folds, rounded as printed."""
    check = Check("Tables A.1-A.6: averages of the five printed folds")
    for (table, metric), values, avg, _ in of_folds(folds):
        mean = sum(values) / len(values)
        slip = abs(mean - Decimal(avg)) <= Decimal("0.0001")
        check.that(
            rounded(mean) == Decimal(avg),
            *(table, f"average, {metric}", avg, str(rounded(mean))),
            f"the mean of the printed folds is {mean}"
            + ("; unrounded folds can still give the printed one" if slip else ""),
        )
    return check


def deviations(folds: pd.DataFrame) -> Check:
    """ddof 1, as far as the rounding of the folds lets one see."""
    check = Check("Tables A.1-A.6: standard deviations of the folds with ddof 1")
    for (table, metric), values, _, std in of_folds(folds):
        value = float(np.std([float(v) for v in values], ddof=1))
        check.that(
            abs(value - float(std)) <= 2 * HALF,  # folds rounded by HALF, and the result
            *(table, f"standard deviation, {metric}", std, f"{value:.5f}", "ddof 1"),
        )
    return check


def ddof_tally(folds: pd.DataFrame) -> tuple[int, int, int]:
    """How many printed deviations fit ddof 0, how many ddof 1, of how many."""
    fits = [0, 0]
    total = 0
    for _, values, _, std in of_folds(folds):
        total += 1
        for ddof in (0, 1):
            value = float(np.std([float(v) for v in values], ddof=ddof))
            fits[ddof] += abs(value - float(std)) <= 2 * HALF
    return fits[0], fits[1], total


def summary(folds: pd.DataFrame) -> Check:
    """Table 4.11 repeats the last two rows of A.1-A.6."""
    check = Check("Table 4.11: equal to Tables A.1-A.6")
    lines = folds[folds["stat"] != "fold"]
    appendix = printed(lines[lines["table"] != "4.11"], "loss", "stat", "metric")
    for row in lines[lines["table"] == "4.11"].to_dict("records"):
        other = appendix[row["loss"], row["stat"], row["metric"]]
        check.that(
            row["value"] == other["value"],
            *("4.11", f"{row['loss']}, {row['stat']} {row['metric']}", row["value"]),
            *(other["value"], f"Table {other['table']}"),
        )
    return check


def bold_folds(folds: pd.DataFrame) -> Check:
    """The highest average and the lowest deviation are bold."""
    check = Check("Table 4.11: bold is the highest average, the lowest deviation")
    rows = folds[folds["table"] == "4.11"]
    for (metric, stat), part in rows.groupby(["metric", "stat"], sort=False):
        best = winners(part.to_dict("records"), lowest=stat == "std")
        marked = list(part.loc[part["printed_bold"] == "true", "loss"])
        check.that(
            best == marked,
            *("4.11", f"{stat} {metric}", " and ".join(marked), " and ".join(best)),
            "the best printed value",
        )
    return check


# ---------------------------------------------------------------- Dice against IoU


def dice_of(iou: float) -> float:
    """Dice = 2 J / (1 + J), of one mask or of pooled counts."""
    return 2 * iou / (1 + iou)


def dice_bounds(grid: pd.DataFrame, folds: pd.DataFrame, bakos: pd.DataFrame) -> Check:
    """Whatever is averaged - images, classes, folds, runs - J <= Dice <= 2 J / (1 + J).

    2 J / (1 + J) is concave, so a mean of Dice is at most that of the mean IoU (Jensen); and each
    Dice is at least its IoU. Medians, as in Bakos's Table 1, need not obey: there it is a
    plausibility.
    """
    check = Check("Dice between J and 2J / (1 + J), as every mean over anything must be")
    for table, cell, iou, dice in dice_pairs(grid, folds, bakos):
        top = dice_of(float(iou) + HALF) + HALF
        check.that(
            float(iou) - 2 * HALF <= float(dice) <= top,
            *(table, f"{cell}, dice", dice, f"{iou} to {dice_of(float(iou)):.4f}"),
            f"IoU {iou}: no averaging of the same masks gives both",
        )
    return check


def pooled(grid: pd.DataFrame, folds: pd.DataFrame) -> Check:
    """Of one class, counts pooled over the data set make Dice = 2 J / (1 + J) exactly."""
    check = Check("CelebAMask-HQ is binary: pooled over the data set, Dice = 2J / (1 + J)")
    seen = dice_pairs(grid[grid["dataset"] == "celebamask_hq"])
    folded = (pair for pair in dice_pairs(None, folds) if "fold" in pair[1])
    for name, found in (("4.1-4.6, 4.12", seen), ("A.1-A.6 folds", folded)):
        pairs = [(float(iou), float(dice)) for _, _, iou, dice in found]
        equal = sum(abs(dice - dice_of(iou)) <= 2 * HALF for iou, dice in pairs)
        lower = sum(dice < dice_of(iou) - 2 * HALF for iou, dice in pairs)
        check.that(
            equal == len(pairs),
            *(name, "celebamask_hq dice", "evaluated over the entire dataset"),
            f"{equal} of {len(pairs)} pairs equal, {lower} lower",
            "so these are not pooled counts; a mean over images (or batches) is always lower",
        )
    return check


def dice_pairs(
    grid: pd.DataFrame | None, folds: pd.DataFrame | None = None, bakos: pd.DataFrame | None = None
) -> Iterator[tuple[str, str, str, str]]:
    """(table, cell, IoU, Dice), as printed."""
    if grid is not None:
        cells = printed(grid, "table", "dataset", "loss", "metric")
        for (table, dataset, loss, metric), row in cells.items():
            if metric == "dice":
                iou = cells[table, dataset, loss, "iou"]["value"]
                yield table, f"{loss}, {dataset}", iou, row["value"]
    if folds is not None:
        means = folds[folds["stat"] != "std"]
        cells = printed(means, "table", "loss", "stat", "fold", "metric")
        for (table, loss, stat, fold, metric), row in cells.items():
            if metric == "dice":
                iou = cells[table, loss, stat, fold, "iou"]["value"]
                yield table, f"{loss}, {stat} {fold}".rstrip(), iou, row["value"]
    if bakos is not None:
        cells = printed(bakos, "table", "model", "loss", "metric")
        for (table, model, loss, metric), row in cells.items():
            if metric == "dsc":
                iou = cells[table, model, loss, "jaccard"]["value"]
                yield f"Bakos {table}", f"{model}, {loss}", iou, row["value"]


# ---------------------------------------------------------------- the text of Gul's thesis


def copies(grid: pd.DataFrame) -> Check:
    """No loss has the same three scores in two experiments (4.5 and 4.12 differ in the seed)."""
    check = Check("Tables 4.1-4.6, 4.12: no row copied from another table")
    seen: dict[tuple[str, ...], str] = {}
    cells = printed(grid, "table", "dataset", "loss", "metric")
    for table in GRID:
        for dataset in ("cityscapes", "celebamask_hq"):
            for loss in LOSSES:
                values = [cells[table, dataset, loss, m]["value"] for m in ("biou", "iou", "dice")]
                other = seen.setdefault((dataset, *values), table)
                check.that(
                    other == table,
                    *(table, f"{loss}, {dataset}", " ".join(values), "other numbers"),
                    f"the same three as in Table {other}",
                )
    return check


def claims(grid: pd.DataFrame, folds: pd.DataFrame, epochs: pd.DataFrame) -> Check:
    """What the text says in numbers."""
    check = Check("Gul 2023: numbers claimed in the text")
    cells = printed(grid, "table", "dataset", "loss", "metric")

    def value(table: str, loss: str, metric: str, dataset: str = "celebamask_hq") -> Decimal:
        return Decimal(cells[table, dataset, loss, metric]["value"])

    def lead(table: str, dataset: str = "cityscapes", metric: str = "biou") -> Decimal:
        others = max(value(table, loss, metric, dataset) for loss in LOSSES if loss != OURS)
        return value(table, OURS, metric, dataset) - others

    def ranks(dataset: str, metric: str) -> dict[str, int]:
        return {
            table: 1
            + sum(
                value(table, loss, metric, dataset) > value(table, OURS, metric, dataset)
                for loss in LOSSES
            )
            for table in GRID
        }

    unet, deeplab = ("4.1", "4.2", "4.3"), ("4.4", "4.5", "4.6", "4.12")
    leads = [lead(table) for table in unet]
    check.that(
        all(gap > 0 for gap in leads),
        *("Abstract", "bIoU of ours over the others, Cityscapes, U-Net models", "0.0561"),
        " / ".join(f"{gap:+}" for gap in leads),
        f"ours minus the best other in 4.1 / 4.2 / 4.3, mean {sum(leads) / 3:+.4f}: "
        "the claim is that of 4.1 alone",
    )
    check.that(
        leads[0] == Decimal("0.0561"),
        *("Abstract", "lead in Table 4.1", "0.0561", f"{leads[0]:+}", "ours minus second best"),
    )
    counts = list(ranks("celebamask_hq", "biou").values())[:6]
    check.that(
        [counts.count(rank) for rank in (3, 2, 1)] == [3, 2, 1],
        *("4.3.1", "ranks on CelebAMask-HQ", "third 3, second 2, first 1", str(counts), "bIoU"),
    )
    others = ("ce", "combo", "dice_focal")
    six = GRID[:6]
    for words, losses, sign, printed_range in (
        ("ours over ce, combo, dice_focal, CelebAMask-HQ bIoU", others, 1, "0.0018 to 0.0119"),
        ("dice, iou over ours where better, CelebAMask-HQ bIoU", ("iou", "dice"), -1)
        + ("0.0001 to 0.0005",),
    ):
        ranges = []
        for metric in ("biou", "dice"):
            gaps = [
                sign * (value(table, OURS, metric) - value(table, loss, metric))
                for table in six
                for loss in losses
            ]
            gaps = [gap for gap in gaps if gap > 0]
            ranges.append(f"{min(gaps)} to {max(gaps)}")
        check.that(
            ranges[0] == printed_range,
            *("4.3.1", words, printed_range, ranges[0]),
            f"the printed range is compared with Dice's, {ranges[1]}",
        )
    first = [t for t, rank in ranks("cityscapes", "superiority_biou").items() if rank > 1]
    check.that(
        first == ["4.3"],
        *("4.3.2", "the one experiment in which ours is not first in superiority"),
        *("Table 4.3 (U-Net, MobileNetV2)", f"Table {', '.join(first)}"),
        "in 4.3 ours has 43.33, the highest and bold; in 4.6 (DeepLabv3+, MobileNetV2) Dice has 50",
    )
    rank = ranks("cityscapes", "biou")
    check.that(
        [t for t in GRID if rank[t] == 1] == ["4.1", "4.4", "4.5", "4.12"],
        *("4.3.2", "ours first in Cityscapes bIoU", "4 of 7", str(rank), "Table 4.7 says 4"),
    )
    for table, text in (("4.2", "-0.0155"), ("4.3", "-0.129"), ("4.4", "0.0198")) + (
        ("4.5", "0.0323"),
        ("4.6", "-0.029"),
    ):
        check.that(
            lead(table) == Decimal(text),
            *("4.3.2", f"ours minus best other, Table {table}", text, f"{lead(table):+}", "bIoU"),
        )
    check.that(
        all(lead(table) > 0 for table in deeplab),
        *("4.3.2", "ours outperforms in bIoU with DeepLabv3+", "all"),
        " / ".join(f"{lead(table):+}" for table in deeplab),
        f"ours minus the best other in {' / '.join(deeplab)}: third in 4.6",
    )
    for metric in ("biou", "iou", "dice"):
        place = {"biou": 1}.get(metric, 2)
        check.that(
            ranks("celebamask_hq", metric)["4.12"] == place
            and ranks("celebamask_hq", metric)["4.5"] == 3,
            *("4.4.1", f"rank of ours in 4.5 and 4.12, CelebAMask-HQ {metric}", f"3, {place}"),
            str(ranks("celebamask_hq", metric)),
            "",
        )
    for dataset in ("celebamask_hq", "cityscapes"):
        change = [
            value("4.12", OURS, m, dataset) - value("4.5", OURS, m, dataset)
            for m in ("biou", "iou", "dice")
        ]
        check.that(
            min(change) >= 0,
            *("4.4.1", f"ours with seed 1234 instead of 42, {dataset}", "no decrease"),
            " / ".join(f"{gap:+}" for gap in change),
            "Table 4.12 minus 4.5: bIoU / IoU / Dice",
        )
    for table, loss, count in (("4.9", "dist", 5), ("4.9", "iou", 3)) + (
        ("4.10", "dist", 4),
        ("4.10", "ce", 2),
    ):
        rows = epochs[(epochs["table"] == table) & (epochs["loss"] == loss)]
        found = int((rows["bold"] == "true").sum())
        check.that(
            found == count,
            *("4.4.2", f"{loss} fastest in Table {table}", str(count), str(found), "bold marks"),
        )
    means = printed(folds[(folds["table"] == "4.11") & (folds["stat"] == "avg")], "metric", "loss")
    for metric in ("biou", "iou", "dice"):
        order = sorted(LOSSES, key=lambda loss: -float(means[metric, loss]["value"]))
        check.that(
            order.index(OURS) == (0 if metric == "biou" else 1),
            *("4.4.3", f"rank of ours, average {metric}", "1 or 2", str(order), "Table 4.11"),
        )
    return check


# ---------------------------------------------------------------- the other sources


def medical(bakos: pd.DataFrame) -> Check:
    """Bakos: the repeated row, and the claims that the text makes of Tables 2-4."""
    check = Check("Bakos 2022: the row in two tables, and the claims of the text")
    cells = printed(bakos, "table", "model", "loss", "metric")
    for metric in ("mahd", "dsc", "jaccard", "ap"):
        one, two = (cells[t, "unet", "boundary", metric]["value"] for t in ("3", "4"))
        check.that(one == two, "Bakos 4", f"boundary, {metric}", two, one, "Bakos 3, same run")
    for table, better, worse in (
        ("2", ("lovasz",), ("jaccard",)),
        ("3", ("boundary+tversky_constant", "boundary+tversky_linear"), ("boundary", "tversky")),
        ("4", ("boundary+weighted_bce_constant",), ("boundary", "weighted_bce")),
    ):
        rows = printed(bakos[bakos["table"] == table], "loss", "metric")
        for metric in dict.fromkeys(key[1] for key in rows):
            sign = -1 if metric == "mahd" else 1
            for loss in better:
                mine = sign * float(rows[loss, metric]["value"])
                for other in worse:
                    theirs = sign * float(rows[other, metric]["value"])
                    if math.isnan(theirs):
                        continue
                    check.that(
                        mine > theirs,
                        *(f"Bakos {table}", f"{loss}, {metric}", "clearly outperforms both alone"),
                        f"{rows[loss, metric]['value']} against {rows[other, metric]['value']}",
                        f"{other} alone is better in {metric}",
                    )
    return check


def caliva(rows: pd.DataFrame) -> Check:
    """Caliva: the method is first in both, and by less than the spread over patients."""
    check = Check("Caliva et al. 2019: the proposed loss has the highest mean")
    for metric, part in rows.groupby("metric", sort=False):
        lines = sorted(part.to_dict("records"), key=lambda row: -float(row["mean"]))
        check.that(
            lines[0]["loss"] == "distance_map_penalised_ce",
            *("Caliva 3", str(metric), "highest", lines[0]["loss"], "of four printed means"),
        )
    return check


def poster_steps(rows: pd.DataFrame) -> Check:
    """IoU of pixels is any number; a mean of tenths over 64 images is a multiple of 1/640."""
    check = Check("Poster Table 2: IoU scores are not multiples of 1/640, as pixels would give")
    for row in rows[rows["metric"] == "iou_score"].to_dict("records"):
        steps = float(row["value"]) * 640
        check.that(
            abs(steps - round(steps)) > 1e-6,
            *("Poster 2", f"{row['loss']}, iou_score", row["value"], f"{round(steps)}/640"),
            "a multiple of 1/640: no ratio of pixels; fits a mean over 64 images x 10 thresholds",
        )
    return check


def poster_claims(rows: pd.DataFrame) -> Check:
    """The poster's text quotes its table."""
    check = Check("Poster: its text rounds its own table")
    cells = printed(rows, "loss", "metric")
    for loss, metric, text in (
        ("focal_tversky", "iou_score", "0.914"),
        ("focal_tversky", "binary_accuracy", "0.982"),
        ("focal_tversky", "binary_accuracy", "0.9828"),
        ("dice_bce", "iou_score", "0.907"),
        ("jaccard", "iou_score", "0.907"),
    ):
        value = rounded(Decimal(cells[loss, metric]["value"]), text)
        check.that(
            value == Decimal(text),
            *("Poster text", f"{loss}, {metric}", text, str(value), "cut off instead of rounded"),
        )
    for metric in ("iou_score", "binary_accuracy"):
        best = winners([row for row in rows.to_dict("records") if row["metric"] == metric])
        check.that(
            best == ["focal_tversky"],
            *("Poster text", f"best {metric}", "focal_tversky", " and ".join(best), "Table 2"),
        )
    return check


# ---------------------------------------------------------------- reading


def columns(grid: pd.DataFrame) -> Iterator[tuple[tuple[str, str, str], list[dict[str, str]]]]:
    """((table, dataset, metric), its six rows)."""
    groups: dict[tuple[str, str, str], list[dict[str, str]]] = {}
    for row in grid.to_dict("records"):
        groups.setdefault((row["table"], row["dataset"], row["metric"]), []).append(row)
    yield from groups.items()


def winners(rows: list[dict[str, str]], *, lowest: bool = False) -> list[str]:
    """The losses with the best printed value."""
    pick = min if lowest else max
    best = pick(Decimal(row["value"]) for row in rows)
    return [row["loss"] for row in rows if Decimal(row["value"]) == best]


def superiorities(grid: pd.DataFrame) -> list[dict[str, str]]:
    """The rows of superiority bIoU."""
    return grid[grid["metric"] == "superiority_biou"].to_dict("records")


def by_table(rows: list[dict[str, str]]) -> Iterator[tuple[str, list[dict[str, str]]]]:
    """Rows by their table."""
    for table in dict.fromkeys(row["table"] for row in rows):
        yield table, [row for row in rows if row["table"] == table]


def experiments(epochs: pd.DataFrame) -> Iterator[list[dict[str, str]]]:
    """The rows of each line of Tables 4.9 and 4.10."""
    for _, rows in epochs.groupby(["table", "architecture", "encoder", "seed"], sort=False):
        yield rows.to_dict("records")


def experiment_of(row: dict[str, str]) -> str:
    """'unet resnet34 seed 42'."""
    return f"{row['architecture']} {row['encoder']} seed {row['seed']}"


def with_biou(grid: pd.DataFrame, epochs: pd.DataFrame) -> Iterator[tuple[dict[str, str], str]]:
    """(a row of Tables 4.9 or 4.10, the bIoU of that run)."""
    keys = ("architecture", "encoder", "seed", "dataset", "loss")
    values = printed(grid[grid["metric"] == "biou"], *keys)
    for row in epochs.to_dict("records"):
        yield row, values[tuple(row[key] for key in keys)]["value"]


def of_folds(
    folds: pd.DataFrame,
) -> Iterator[tuple[tuple[str, str], list[Decimal], str, str]]:
    """((table, metric), the five values, average, standard deviation) of A.1-A.6."""
    rows = folds[folds["table"] != "4.11"]
    for key, part in rows.groupby(["table", "metric"], sort=False):
        values = [Decimal(text) for text in part.loc[part["stat"] == "fold", "value"]]
        (avg,), (std,) = (part.loc[part["stat"] == stat, "value"] for stat in ("avg", "std"))
        yield key, values, avg, std


def rounded(value: Decimal, like: str = "0.0000") -> Decimal:
    """To the decimals of `like`, halves up."""
    return value.quantize(Decimal(like), rounding=ROUND_HALF_UP)


# ---------------------------------------------------------------- report

NOT_CHECKABLE = (
    "2.4 % less GPU memory (abstract, 4.3.3): the text gives no second number, and does not say "
    "whether points or relative. It is for one network (U-Net, ResNet-50), one data set, and "
    "against the second of the three losses without spikes.",
    "49.32 % on GPU 0, 2.0 % less than the second (4.3.3): 51.32 % if points, 50.33 % if relative.",
    "Poster: no Dice is printed, so nothing follows from its IoU. Caliva: no IoU is printed.",
    "Bakos: no bold marks and no differences are transcribed.",
)


def report(checks: list[Check], folds: pd.DataFrame) -> str:
    """Markdown; the same text for the same numbers."""
    held = sum(check.held for check in checks)
    found = sum(len(check.findings) for check in checks)
    zero, one, total = ddof_tally(folds)
    lines = [
        "# Audit of the published numbers",
        "",
        "Made by `python scripts/audit.py`. Each printed number that follows from others is "
        "recomputed.",
        f"{held} checks held, {found} did not. The CSV files hold what the sources print: every "
        "finding below was compared with the text of its source, and is the source's own.",
        "",
        f"Standard deviations of the folds: {one} of {total} fit ddof 1, {zero} of {total} fit "
        "ddof 0.",
        "",
        "| check | held | contradictions |",
        "|---|---|---|",
        *(f"| {check.name} | {check.held} | {len(check.findings)} |" for check in checks),
        "",
        "## Contradictions",
        "",
        "| table | cell | printed | recomputed | why |",
        "|---|---|---|---|---|",
        *(
            f"| {f.table} | {f.cell} | {f.printed} | {f.recomputed} | {f.why} |"
            for check in checks
            for f in check.findings
        ),
        "",
        "## Not checkable",
        "",
        *(f"- {text}" for text in NOT_CHECKABLE),
    ]
    return "\n".join(lines) + "\n"
