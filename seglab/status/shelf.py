"""What lies in a results folder, finished or not. A damaged folder is named, and the rest goes on.

Only record.json and, of unfinished runs, epochs.csv are read: a second for a thousand runs.
"""

import csv
import statistics
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from seglab import files
from seglab.errors import RunError
from seglab.record import RunFolder, read_finished, read_record
from seglab.status.cells import Cell

MALFORMED = (KeyError, TypeError, ValueError, AttributeError)  # of a record that is not one


@dataclass(frozen=True)
class Found:
    """One run as it lies on the disk.

    Attributes:
        cell: the cell that it fills.
        record: record.json.
        is_finished: whether it lies in runs/.
        is_locked: whether a living process works on it.
        epoch: whole epochs done.
        epoch_seconds: the median over its epochs, training and validation; None: none known.
    """

    folder: Path
    cell: Cell
    record: dict[str, Any]
    is_finished: bool
    is_locked: bool = False
    epoch: int = 0
    epoch_seconds: float | None = None


@dataclass
class Shelf:
    """Every run of a results folder.

    Attributes:
        by_cell: Cell.key -> the runs that fill it, whatever their data.
        starting: run ids that a living process has opened and not yet described.
        damaged: folder -> a message that names it, says what is wrong, and what to do.
    """

    by_cell: dict[str, list[Found]] = field(default_factory=lambda: defaultdict(list))
    starting: set[str] = field(default_factory=set)
    damaged: dict[Path, str] = field(default_factory=dict)

    def all(self) -> Iterator[Found]:
        """Every run."""
        for found in self.by_cell.values():
            yield from found


def look(results: Path) -> Shelf:
    """Reads <results>/runs and <results>/drafts, neither of which need be there."""
    shelf = Shelf()
    for kind in ("runs", "drafts"):
        for path in sorted((results / kind).glob("*/")):
            folder = RunFolder(results, path.name)
            try:
                found = _finished(folder) if kind == "runs" else _unfinished(folder)
            except RunError as error:
                shelf.damaged[path] = str(error)
            except MALFORMED as error:
                shelf.damaged[path] = (
                    f"{path}: does not hold what a run writes ({type(error).__name__}: {error}). "
                    "Delete the folder to run anew."
                )
            else:
                if found is not None:
                    shelf.by_cell[found.cell.key].append(found)
                elif files.is_locked(folder.lock):
                    shelf.starting.add(folder.id)
    return shelf


def _finished(folder: RunFolder) -> Found:
    kept = read_finished(folder.final)
    return Found(folder.final, _cell(kept), kept, is_finished=True)


def _unfinished(folder: RunFolder) -> Found | None:
    """None where nothing was written yet."""
    kept = read_record(folder.draft)
    if not kept:
        return None
    epoch, seconds = progress(folder.draft)
    return Found(
        folder.draft,
        _cell(kept),
        kept,
        is_finished=False,
        is_locked=files.is_locked(folder.lock),
        epoch=epoch,
        epoch_seconds=seconds,
    )


def _cell(kept: dict[str, Any]) -> Cell:
    """The cell that a record fills. Errors: one of MALFORMED where it is no record."""
    processes = kept.get("device", {}).get("count", 1)
    cell = Cell(dict(kept["choices"]), dict(kept["science"]), processes=processes)
    sections = [cell.science[name] for name in ("dataset", "model", "loss", "data")]
    named = [cell.choices[group] for group in ("dataset", "model", "loss")]
    if None in (*sections, *named, cell.run_id, cell.epochs, kept["status"]):
        raise ValueError("a part of record.json is empty")
    return cell


def progress(draft: Path) -> tuple[int, float | None]:
    """Whole epochs in epochs.csv, and the median seconds of one. Errors: ValueError, KeyError."""
    path = draft / "epochs.csv"
    if not path.exists():
        return 0, None
    seconds: dict[int, float] = defaultdict(float)
    with open(path, newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            seconds[int(row["epoch"])] += float(row["seconds"])
    return (max(seconds), statistics.median(seconds.values())) if seconds else (0, None)
