"""Charts of groups of runs that differ in the loss alone, as Figures 4.3-4.6 of Gul's thesis.

For each group of two losses or more: the validation bIoU by epoch, the peak memory over the time
of training, and the run time. Nothing is read off the thesis's pictures: what its text says of
memory (section 4.3.3) stands beside what was measured, and it says no run time.

A loss has one colour and one dash everywhere. The colours are those of Okabe and Ito, which
colour-blind readers tell apart (https://jfly.uni-koeln.de/color/); the dashes do it without colour.
"""

import textwrap
import zlib
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from seglab import files, scores
from seglab.errors import RunError
from seglab.store import StoredRun
from seglab.tables.convergence import TABLES, target
from seglab.tables.measured import Cellname, Measured
from seglab.tables.published import DATASETS, ENCODERS, LOSSES, MODELS, OURS, Published
from seglab.tables.readings import Convention

MOST = 14  # groups, half a second each: all of the thesis, and not a minute of a thousand runs

WIDTH_INCHES = 3.5  # half a page, at which the sizes below are read
HEIGHT_INCHES = 1.9  # of what is inside the axes
BAR_INCHES = 0.24
MARGIN_INCHES = 0.08
LEFT_INCHES = 0.58  # tick labels and the name of the y axis
BELOW_INCHES = 0.4  # tick labels and the name of the x axis
DOTS_PER_INCH = 200
TITLE, TEXT, SMALL = 8.0, 7.0, 6.5  # points
CHARACTER = 0.52  # width of a mean character / its size
LINE = 1.35  # distance of two lines / size
INK, PALE = "#303030", "#8c8c8c"

Dash = tuple[float, ...]  # on, off, ... in widths of the line; empty: solid


@dataclass(frozen=True)
class Look:
    """How a loss is drawn."""

    colour: str
    dash: Dash = ()
    width: float = 1.2


COLOURS = ("#56b4e9", "#009e73", "#e69f00", "#0072b2", "#cc79a7", "#000000")
DASHES: tuple[Dash, ...] = (
    (4, 1.7), (1, 1.1), (4, 1.3, 1, 1.3), (7.5, 2), (4, 1.3, 1, 1.3, 1, 1.3)
)  # fmt: skip
LOOKS = {
    "ce": Look("#000000", DASHES[0]),
    "iou": Look("#009e73", DASHES[1]),
    "dice": Look("#0072b2", DASHES[2]),
    "combo": Look("#e69f00", DASHES[3]),
    "dice_focal": Look("#cc79a7", DASHES[4]),
    "focal": Look("#56b4e9"),
    OURS: Look("#d55e00", width=2.0),
}
OTHERS = [
    look
    for look in (Look(colour, dash) for dash, colour in product(DASHES, COLOURS))
    if look not in LOOKS.values()
]
PARTS = {"training": 1.0, "validation": 0.6, "other": 0.3}  # opacity of a bar

COLUMNS = {"epoch", "split", "seconds", "peak_memory_bytes", "peak_memory_share"}
COUNTED = {  # by the kind of the device: what a peak is a peak of
    "cuda": "Of each epoch the highest, the data set left out.",
    "cpu": "The highest since the process began, libraries and data included.",
}
NUMBER = (int, float)
ENTRIES = {  # of the record
    "device": {"kind": set(COUNTED), "name": str, "count": int},
    "peak_memory_kind": str,
    "seconds": dict.fromkeys(("setup", "fit", "evaluate", "record"), NUMBER),
}


# ---------------------------------------------------------------- which runs, and what they say


def write(
    measured: Measured, published: Published, folder: Path, threshold: float | None, most: int
) -> tuple[str, list[RunError]]:
    """<folder>/<group>-convergence, -memory and -run_time, .png and .svg.

    Args:
        threshold: bIoU to reach on data sets without a published one; None: see `target`.
        most: groups that are drawn, those of the lowest seeds first.

    Returns:
        what was drawn, in words, and the runs that do not say what they took: in no figure.
    """
    found = groups(measured)
    if not found:
        said = "no figure: it takes runs of two losses with the same data set, network and seed"
        return said, []
    looks = looks_of(name.loss for names in found.values() for name in names)
    drawn, damaged = 0, []
    for group, names in list(found.items())[: max(0, most)]:
        epochs = {}
        for name in names:
            try:
                epochs[name.loss] = epochs_of(measured.readings[name].run)
            except RunError as error:
                damaged.append(error)
        if len(epochs) < 2:
            continue
        drawn += 1
        names = [name for name in names if name.loss in epochs]
        runs = {name.loss: measured.readings[name].run for name in names}
        curves = {name.loss: measured.curves[name] for name in names}
        level = target(group.dataset, measured, threshold)
        stem = "-".join((group.dataset, group.model, group.encoder, f"s{group.seed}"))
        path = folder / stem.replace("/", "_").replace(" ", "_")
        convergence = convergence_figure(group, curves, level, measured.convention, looks)
        save(convergence, f"{path}-convergence")
        save(memory_figure(group, runs, epochs, published, looks), f"{path}-memory")
        save(run_time_figure(group, runs, epochs, looks), f"{path}-run_time")
    rest = f"; --figures {len(found)} draws all" if max(0, most) < len(found) else ""
    said = f"{folder}: {drawn} of {len(found)} groups of runs drawn, as .png and .svg{rest}"
    return said, damaged


def groups(measured: Measured) -> dict[Cellname, list[Cellname]]:
    """Runs that differ in the loss alone, two or more, outside a cross-validation.

    A group is named by its runs' name without the loss; the losses of the thesis come first.
    """
    found: dict[Cellname, list[Cellname]] = defaultdict(list)
    for name in sorted(measured.curves, key=lambda name: (_place(name.loss), name.loss)):
        if name.fold is None:
            found[replace(name, loss="")].append(name)
    order = sorted(found, key=lambda g: (g.seed, g.dataset, g.model, g.encoder))
    return {group: found[group] for group in order if len(found[group]) > 1}


def looks_of(losses: Iterable[str]) -> dict[str, Look]:
    """A look for each loss: fixed for those of LOOKS, for another drawn from its name.

    Where two others draw the same, the second takes the next that is free.
    """
    looks = dict(LOOKS)
    for loss in sorted(set(losses) - set(looks)):
        first = zlib.crc32(loss.encode()) % len(OTHERS)
        turned = OTHERS[first:] + OTHERS[:first]
        looks[loss] = next((look for look in turned if look not in looks.values()), turned[0])
    return looks


def epochs_of(run: StoredRun) -> pd.DataFrame:
    """epochs.csv. Errors: RunError where it or the record does not say what the run took."""
    epochs = run.epochs()
    here = epochs.replace([np.inf, -np.inf], np.nan)
    lost = [c for c in sorted(COLUMNS) if c not in here or here[c].isna().any()]
    lost += run.faults(ENTRIES)
    lost += sorted({"train", "val"} - set(epochs.get("split", [])))
    if lost:
        raise RunError(
            f"{run.folder}: has lost {', '.join(lost)}. Delete the run to do it again, or draw no "
            "figure: --figures 0."
        )
    return epochs


def memory_over_time(epochs: pd.DataFrame) -> pd.Series:
    """Peak memory of each epoch, percent of the device, by the second at which the epoch ended."""
    by_epoch = epochs.groupby("epoch").agg({"seconds": "sum", "peak_memory_share": "max"})
    share = 100 * by_epoch["peak_memory_share"]
    return share.set_axis(by_epoch["seconds"].cumsum())


def run_time(run: StoredRun, epochs: pd.DataFrame) -> dict[str, float]:
    """Seconds of each of PARTS.

    Of a run that was resumed the setup is the last session's, and time on checkpoints is lost.
    """
    by_split = epochs.groupby("split")["seconds"].sum()
    training, validation = float(by_split["train"]), float(by_split["val"])
    phases = run.record["seconds"]
    checkpoints = max(0.0, phases["fit"] - training - validation)
    rest = phases["setup"] + checkpoints + phases["evaluate"] + phases["record"]
    return dict(zip(PARTS, (training, validation, rest), strict=True))


def published_memory(published: Published, group: Cellname) -> tuple[list[float], str]:
    """What section 4.3.3 says of this network: percentages of a GPU, and all of it as a sentence.

    Both are empty where it says nothing.
    """
    rows = published["dist_thesis_gpu_memory"]
    rows = rows[
        (rows["section"] == "4.3.3")
        & (rows["dataset"] == group.dataset)
        & (rows["architecture"] == group.model)
        & (rows["encoder"] == group.encoder)
    ]
    levels, said = [], []
    for row in rows.to_dict("records"):
        text = f"{LOSSES.get(row['loss'], 'all six losses')} {row['value']} %"
        if row["quantity"] == "allocated_memory":
            levels.append(float(row["value"]))
            said.append(f"{text} of {row['gpu']}")
        else:
            said.append(f"{text} less than {LOSSES.get(row['compared_to'], row['compared_to'])}")
    if not said:
        return [], ""
    where = rows["platform"].iloc[0].replace("_", " ")
    return levels, f"Published ({where}, allocated): {'; '.join(said)}."


# ---------------------------------------------------------------- the three figures


def convergence_figure(
    group: Cellname,
    curves: dict[str, pd.Series],
    threshold: float,
    convention: Convention,
    looks: dict[str, Look],
) -> Figure:
    """Validation bIoU by epoch, and the first epoch at which each loss reaches the threshold.

    Args:
        curves: by loss, bIoU by epoch; `convention`: what their bIoU is.
    """
    reached = {loss: scores.convergence(curve, threshold) for loss, curve in curves.items()}
    labels = {
        loss: "never" if epoch is None else f"epoch {epoch}" for loss, epoch in reached.items()
    }
    table = {dataset: f" of Table {table}" for table, (dataset, _) in TABLES.items()}
    axes = _axes(
        ["Validation bIoU by epoch", _title(group)],
        _line_entries(labels, looks),
        f"Thin line: bIoU {threshold:g}{table.get(group.dataset, '')}; circle and legend: the "
        f"first epoch that reaches it. Aggregation {convention.aggregation}, boundary band "
        f"{convention.ratio:g} of the diagonal.",
    )
    axes.axhline(threshold, color=PALE, linewidth=0.6, zorder=1)
    for loss, curve in curves.items():
        curve = curve.sort_index()
        _line(axes, curve.index, curve, loss, looks)
        if reached[loss] is not None:
            axes.plot(
                reached[loss], curve[reached[loss]], "o", color=looks[loss].colour,
                markerfacecolor="white", markersize=4.5, zorder=4,
            )  # fmt: skip
    axes.xaxis.set_major_locator(MaxNLocator(7, integer=True, steps=[1, 2, 5, 10], min_n_ticks=1))
    axes.set_xlabel("epoch")
    axes.set_ylabel("validation bIoU")
    return axes.figure


def memory_figure(
    group: Cellname,
    runs: dict[str, StoredRun],
    epochs: dict[str, pd.DataFrame],
    published: Published,
    looks: dict[str, Look],
) -> Figure:
    """The device's memory in use over the time of training: Figures 4.3 and 4.5.

    What was published is drawn where the measured memory is a GPU's too, and said in any case.
    """
    kinds = sorted({run.record["peak_memory_kind"] for run in runs.values()})
    counted = sorted({COUNTED[run.record["device"]["kind"]] for run in runs.values()})
    devices = _devices(runs)
    shares = {loss: memory_over_time(table) for loss, table in epochs.items()}
    labels = {
        loss: f"{share.max():.2f} %, "
        + files.size_for_humans(float(epochs[loss]["peak_memory_bytes"].max()))
        + _where(loss, devices)
        for loss, share in shares.items()
    }
    levels, said = published_memory(published, group)
    if counted != [COUNTED["cuda"]]:
        levels = []
    note = [*counted, f"Legend: the highest of all. {_machines(devices)}", said]
    note += ["Thin lines: the published shares."] if levels else []
    axes = _axes(
        ["Peak memory over the time of training", _title(group)],
        _line_entries(labels, looks),
        " ".join(note),
    )
    unit, divisor = _time_unit(max(share.index[-1] for share in shares.values()))
    for level in levels:
        axes.axhline(level, color=PALE, linewidth=0.6, zorder=1)
    for loss, share in shares.items():
        ends = np.concatenate([[0.0], share.index]) / divisor
        values = np.concatenate([share.iloc[:1], share])
        _line(axes, ends, values, loss, looks, drawstyle="steps-pre")
    # not as close as the lines are: a thousandth more memory is not to look like a difference
    everything = [*levels, *(value for share in shares.values() for value in share)]
    axes.set_ylim(0.9 * min(everything), 1.05 * max(everything))
    axes.set_xlabel(f"time of training and validation ({unit})")
    axes.set_ylabel(f"{' | '.join(kinds)} (% of all)")
    return axes.figure


def run_time_figure(
    group: Cellname,
    runs: dict[str, StoredRun],
    epochs: dict[str, pd.DataFrame],
    looks: dict[str, Look],
) -> Figure:
    """Bars of the time of the whole process: Figures 4.4 and 4.6."""
    devices = _devices(runs)
    times = {loss: run_time(run, epochs[loss]) for loss, run in runs.items()}
    names = [_short(LOSSES.get(loss, loss) + _where(loss, devices)) for loss in runs]
    entries = [Patch(color=INK, alpha=part, linewidth=0, label=p) for p, part in PARTS.items()]
    axes = _axes(
        ["Run time of the whole process", _title(group)],
        entries,
        f"Other: setup, checkpoints, test. {_machines(devices)}",
        left=3 * MARGIN_INCHES + max(map(len, names)) * CHARACTER * TEXT / 72,
        height=BAR_INCHES * (len(names) + 0.5),
    )
    totals = {loss: sum(parts.values()) for loss, parts in times.items()}
    unit, divisor = _time_unit(max(totals.values()))
    for row, (loss, parts) in enumerate(times.items()):
        begin = 0.0
        for part, seconds in parts.items():
            axes.barh(
                row, seconds / divisor, 0.62, begin / divisor,
                color=looks[loss].colour, alpha=PARTS[part], linewidth=0,
            )  # fmt: skip
            begin += seconds
        axes.annotate(
            f"{begin / divisor:.3g}", (begin / divisor, row), (3, 0), fontsize=TEXT, va="center",
            textcoords="offset points", weight=_weight(loss),
        )  # fmt: skip
    axes.set_xlim(0, 1.13 * max(totals.values()) / divisor)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set_yticks(range(len(names)), names)
    for label, loss in zip(axes.get_yticklabels(), runs, strict=True):
        label.set_weight(_weight(loss))
    axes.grid(visible=False, axis="y")
    axes.set_xlabel(f"time ({unit})")
    return axes.figure


def save(figure: Figure, path: str) -> None:
    """path.png and path.svg, whole or not at all, the same bytes for the same runs."""
    # without a salt of its own the SVG's names are random, without None it says when it was made
    with matplotlib.rc_context({"svg.hashsalt": "seglab"}):
        for ending, metadata in (("png", {}), ("svg", {"Date": None})):
            files.write_atomic(
                Path(f"{path}.{ending}"),
                lambda temporary, ending=ending, metadata=metadata: figure.savefig(
                    temporary, format=ending, dpi=DOTS_PER_INCH, metadata=metadata
                ),
            )


# ---------------------------------------------------------------- words


def _title(group: Cellname) -> str:
    dataset = DATASETS.get(group.dataset, group.dataset)
    model = MODELS.get(group.model, group.model)
    encoder = ENCODERS.get(group.encoder, group.encoder)
    return f"{dataset}, {model} & {encoder}, seed {group.seed}"


def _devices(runs: dict[str, StoredRun]) -> dict[str, str]:
    """loss -> '2 x Tesla T4'."""
    found = {loss: run.record["device"] for loss, run in runs.items()}
    return {
        loss: f"{device['count']} x {device['name']}" if device["count"] > 1 else device["name"]
        for loss, device in found.items()
    }


def _where(loss: str, devices: dict[str, str]) -> str:
    """' (cpu)' where not all ran on the same device, for then nothing else may be compared."""
    return f" ({devices[loss]})" if len(set(devices.values())) > 1 else ""


def _machines(devices: dict[str, str]) -> str:
    return f"Device: {', '.join(sorted(set(devices.values())))}."


def _time_unit(seconds: float) -> tuple[str, float]:
    """('min', 60.0): in which so long a time is read, and how many seconds that is."""
    if seconds < 180:
        return "s", 1.0
    return ("min", 60.0) if seconds < 3 * 3600 else ("h", 3600.0)


def _short(text: str) -> str:
    return text if len(text) <= 32 else f"{text[:29]}..."


def _place(loss: str) -> int:
    return list(LOSSES).index(loss) if loss in LOSSES else len(LOSSES)


def _weight(loss: str) -> str:
    return "bold" if loss == OURS else "normal"


# ---------------------------------------------------------------- layout


def _axes(
    titles: Sequence[str],
    entries: Sequence[Any],
    note: str,
    left: float = LEFT_INCHES,
    height: float = HEIGHT_INCHES,
) -> Axes:
    """Axes in a figure without pyplot; titles above, legend and note below, as high as they need.

    Everything is placed in inches, so nothing overlaps, and nothing has to be laid out twice.
    """
    inside = WIDTH_INCHES - 2 * MARGIN_INCHES
    heading = [line for title in titles for line in _wrapped(title, inside, TITLE)]
    notes = _wrapped(note, inside, SMALL)
    longest = max(len(entry.get_label()) for entry in entries)
    columns = max(1, min(len(entries), int(inside / (0.42 + longest * CHARACTER * SMALL / 72))))
    rows = -(-len(entries) // columns)
    note_top = MARGIN_INCHES + len(notes) * LINE * SMALL / 72
    legend_top = note_top + MARGIN_INCHES + rows * LINE * SMALL / 72
    bottom = legend_top + BELOW_INCHES
    top = bottom + height
    down = top + 2 * MARGIN_INCHES + len(heading) * LINE * TITLE / 72

    figure = Figure(figsize=(WIDTH_INCHES, down), dpi=DOTS_PER_INCH)
    FigureCanvasAgg(figure)
    wide = WIDTH_INCHES - left - 2 * MARGIN_INCHES
    axes = figure.add_axes((left / WIDTH_INCHES, bottom / down, wide / WIDTH_INCHES, height / down))
    figure.text(
        0.5, (top + MARGIN_INCHES) / down, "\n".join(heading), ha="center", va="bottom",
        fontsize=TITLE, linespacing=1.2,
    )  # fmt: skip
    figure.text(
        MARGIN_INCHES / WIDTH_INCHES, note_top / down, "\n".join(notes), va="top",
        fontsize=SMALL, color=INK, linespacing=1.2,
    )  # fmt: skip
    figure.legend(
        handles=entries, loc="upper center", bbox_to_anchor=(0.5, legend_top / down), ncols=columns,
        fontsize=SMALL, frameon=False, borderpad=0, borderaxespad=0, labelspacing=0.25,
        handlelength=3.2, columnspacing=1.2,
    )  # fmt: skip
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=TEXT)
    axes.xaxis.label.set_size(TEXT)
    axes.yaxis.label.set_size(TEXT)
    axes.grid(visible=True, color="#e6e6e6", linewidth=0.5)
    axes.set_axisbelow(True)
    return axes


def _wrapped(text: str, inches: float, size: float) -> list[str]:
    characters = int(inches * 72 / (CHARACTER * size))
    return textwrap.wrap(text, characters, break_on_hyphens=False)


def _line_entries(labels: dict[str, str], looks: dict[str, Look]) -> list[Line2D]:
    return [
        Line2D([], [], label=f"{_short(LOSSES.get(loss, loss))}: {text}", **_strokes(looks[loss]))
        for loss, text in labels.items()
    ]


def _line(
    axes: Axes, x: Any, y: Any, loss: str, looks: dict[str, Look], drawstyle: str = "default"
) -> None:
    """One loss's line; a run of a single epoch is a point, which a line does not show."""
    axes.plot(
        x, y, drawstyle=drawstyle, marker="." if len(x) == 1 else None,
        zorder=3 if loss == OURS else 2, **_strokes(looks[loss]),
    )  # fmt: skip


def _strokes(look: Look) -> dict[str, Any]:
    return {
        "color": look.colour,
        "linewidth": look.width,
        "linestyle": (0, look.dash) if look.dash else "solid",
        "solid_capstyle": "butt",
    }
