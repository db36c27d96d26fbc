"""How a cell stands: the one decision that the matrix, the lists and the forecast share."""

from dataclasses import dataclass, replace
from pathlib import Path

from seglab import record
from seglab.status.cells import Cell
from seglab.status.shelf import Found, Shelf

STATES = {
    "done": "finished, with this code and this data",
    "running": "a living process is at it",
    "stopped": "interrupted or killed: the same command goes on from its last whole epoch",
    "failed": "ended with an error",
    "stale": "finished, but with other code or other data: rerun=stale does it again",
    "damaged": "its folder cannot be read",
    "missing": "not begun",
}


@dataclass(frozen=True)
class Standing:
    """One cell, judged.

    Attributes:
        state: one of STATES.
        why: the reason for failed, stopped, stale and damaged; else "".
        epoch: whole epochs done that the next start goes on from.
        seconds_left: of a running or stopped run, by its own epochs so far; None: not known.
        folder: of its run; None where it has none.
    """

    cell: Cell
    state: str
    why: str = ""
    epoch: int = 0
    seconds_left: float | None = None
    folder: Path | None = None

    @property
    def share_left(self) -> float:
        """Of the work of the cell, 0 .. 1."""
        return 0.0 if self.state == "done" else 1 - self.epoch / self.cell.epochs


def judge(cell: Cell, shelf: Shelf) -> Standing:
    """The run that fills a cell, if any: the one at work, else the finished one, else the draft,
    else a finished one on other data, which is stale.

    Where the data of the cell is not known, any will do.
    """
    candidates = shelf.by_cell.get(cell.key, [])
    same = [found for found in candidates if _same_data(found, cell)]
    drafts = [found for found in same if not found.is_finished]
    for found in drafts:
        if found.is_locked:
            return _unfinished(cell, found, "running")
    if cell.run_id in shelf.starting:
        return Standing(cell, "running", "is starting")
    done = _newest(same)
    if done is not None:
        return _finished(cell, done)
    for folder, why in shelf.damaged.items():
        if folder.name == cell.run_id:
            return Standing(cell, "damaged", why, folder=folder)
    if drafts:
        state = "failed" if drafts[-1].record["status"] == "failed" else "stopped"
        return _unfinished(cell, drafts[-1], state)
    outdated = _newest(candidates)
    if outdated is not None:
        return _finished(cell, outdated)
    return Standing(cell, "missing")


def every(shelf: Shelf) -> list[Standing]:
    """All that a results folder holds, each experiment once, whatever its data; in order."""
    cells = [found[-1].cell for found in shelf.by_cell.values()]
    cells.sort(key=lambda cell: (cell.choices["dataset"], cell.seed, *cell.network, cell.key))
    return [judge(replace(c, science={**c.science, "data": None}), shelf) for c in cells]


def _same_data(found: Found, cell: Cell) -> bool:
    return cell.science["data"] in (None, found.cell.science["data"])


def _newest(candidates: list[Found]) -> Found | None:
    done = [found for found in candidates if found.is_finished]
    return max(done, key=lambda found: str(found.record.get("finished", "")), default=None)


def _finished(cell: Cell, found: Found) -> Standing:
    data = cell.science["data"] or found.cell.science["data"]
    why = record.stale_reason(found.record, {**cell.science, "data": data})
    state = "done" if why is None else "stale"
    return Standing(cell, state, why or "", folder=found.folder)


def _unfinished(cell: Cell, found: Found, state: str) -> Standing:
    left = None
    if found.epoch_seconds is not None:
        left = (cell.epochs - found.epoch) * found.epoch_seconds
    reason = found.record.get("reason") or ""
    if state == "stopped" and not reason:
        reason = "it ended without a word (killed?)"
    if state == "stopped" and record.changed_code(found.record.get("code") or {}):
        reason += "; the code has changed since, so it will end as stale"
    why = reason if state != "running" else ""
    return Standing(cell, state, why, found.epoch, left, found.folder)
