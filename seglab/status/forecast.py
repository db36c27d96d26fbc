"""What is left of a grid: hours by the cells' medians, memory by network, and what will not fit.

A cell takes as long as the median of the finished runs of its network, data set, image size, batch
and loss on this device; without such runs, of those with any loss; without these, as long as a
probe of it says. Memory is the largest peak of a network, whatever the loss.
"""

import statistics
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from seglab import files
from seglab.status.cells import Cell, Place
from seglab.status.shelf import Found
from seglab.status.standing import Standing

COSTS_NOTHING = {  # keys of a section that change the numbers of a run, and not what it costs
    "dataset": ("seed", "split", "mean", "std"),
    "encoder": ("weights",),
    "model": ("weights",),
    "training": ("epochs",),
}


@dataclass(frozen=True)
class Figure:
    """What one finished run, or one probe, cost.

    Attributes:
        network: `network_key` of its cell.
        loss: `loss_key` of its cell.
        epoch_seconds: of the whole run, shared out over its epochs; None where it did not fit, or
            was another device's.
        memory_bytes: peak of one process; None where it did not fit.
        origin: run | probe.
    """

    network: str
    loss: str
    epoch_seconds: float | None
    memory_bytes: int | None
    origin: str


@dataclass(frozen=True)
class Forecast:
    """What is left.

    Attributes:
        device_seconds: of all cells whose cost is known; a run on two devices counts twice.
        by_origin: run | probe | own (a run's own epochs so far) -> cells that were judged by it.
        unknown: cells of which no figure tells.
        memory: network_key -> largest known peak, bytes.
        too_large: cells left to do whose network will not fit on this device.
    """

    device_seconds: float
    by_origin: dict[str, int]
    unknown: list[Cell]
    memory: dict[str, int]
    too_large: list[Cell]


def network_parts(cell: Cell) -> dict[str, Any]:
    """What decides what a cell costs, but for its loss: network, data, size, batch."""
    parts: dict[str, Any] = {"data": cell.choices["dataset"], "processes": cell.processes}
    for section, left_out in COSTS_NOTHING.items():
        values = cell.science[section]
        parts[section] = {k: v for k, v in values.items() if k not in left_out}
    return parts


def network_key(cell: Cell) -> str:
    """The same for cells of the same parts."""
    return files.sha256_json(network_parts(cell))


def loss_key(cell: Cell) -> str:
    """The same for the same loss."""
    return files.sha256_json(cell.science["loss"])


def of_runs(found: Iterable[Found], place: Place) -> list[Figure]:
    """The figures of finished runs on this kind of device; times of this very device alone."""
    return [
        Figure(
            network_key(run.cell),
            loss_key(run.cell),
            _run_seconds(run.record) / run.cell.epochs if _device(run, "name", place) else None,
            run.record["peak_memory_bytes"],
            "run",
        )
        for run in found
        if run.is_finished
        and _device(run, "kind", place)
        and {"train_seconds", "peak_memory_bytes"} <= run.record.keys()
    ]


def _device(run: Found, what: str, place: Place) -> bool:
    return run.record.get("device", {}).get(what) == getattr(place, what)


def _run_seconds(kept: dict[str, Any]) -> float:
    """Of all phases; a resumed run knows those of its last part, and all of its training."""
    return max(sum(kept.get("seconds", {}).values()), kept["train_seconds"])


def cost(cell: Cell, figures: list[Figure]) -> tuple[float, str] | None:
    """(seconds of the whole run, run | probe), or None where nothing tells."""
    network, loss = network_key(cell), loss_key(cell)
    timed = [f for f in figures if f.network == network and f.epoch_seconds is not None]
    for origin in ("run", "probe"):
        near = [figure for figure in timed if figure.origin == origin]
        same = [figure for figure in near if figure.loss == loss]
        seconds = [figure.epoch_seconds for figure in same or near]
        if seconds:
            return statistics.median(seconds) * cell.epochs, origin
    return None


def memory_by_network(figures: Iterable[Figure]) -> dict[str, int]:
    """network_key -> its largest known peak, bytes."""
    peaks: dict[str, int] = {}
    for figure in figures:
        if figure.memory_bytes is not None:
            peaks[figure.network] = max(peaks.get(figure.network, 0), figure.memory_bytes)
    return peaks


def fits(cell: Cell, figures: list[Figure], place: Place) -> bool | None:
    """Whether a cell fits into this device's memory; None where nothing tells."""
    network, loss = network_key(cell), loss_key(cell)
    own = [figure for figure in figures if figure.network == network]
    if any(figure.memory_bytes is None and figure.loss == loss for figure in own):
        return False
    peak = memory_by_network(own).get(network)
    return None if peak is None else peak <= place.memory_bytes


def forecast(standings: list[Standing], figures: list[Figure], place: Place) -> Forecast:
    """What is left of a grid. A cell that will not fit takes no hours, and is named."""
    seconds = 0.0
    origins: dict[str, int] = {}
    unknown, too_large = [], []
    for standing in standings:
        cell = standing.cell
        if standing.state == "done":
            continue
        if fits(cell, figures, place) is False:
            too_large.append(cell)
            continue
        left = _left(standing, figures)
        if left is None:
            unknown.append(cell)
            continue
        seconds += left[0] * cell.processes
        origins[left[1]] = origins.get(left[1], 0) + 1
    peaks = memory_by_network(figures)
    return Forecast(seconds, origins, unknown, peaks, too_large)


def _left(standing: Standing, figures: list[Figure]) -> tuple[float, str] | None:
    """(seconds, by what): a run that is under way tells best itself."""
    if standing.seconds_left is not None:
        return standing.seconds_left, "own"
    whole = cost(standing.cell, figures)
    return None if whole is None else (whole[0] * standing.share_left, whole[1])
