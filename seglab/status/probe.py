"""A few real steps of a cell, by train.py itself in a process of its own: what would a run cost?

Two short epochs; the first warms up, the second counts. Out of memory is an answer, too. Answers
are kept in the cache, so that asking again is free; a change of the code asks anew.
"""

import csv
import json
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from seglab import files, record
from seglab.status.cells import Cell, Place
from seglab.status.forecast import Figure, loss_key, network_key

STEPS = 3  # of each of the two epochs
EPOCHS = 2
KILLED = (-signal.SIGKILL, 128 + signal.SIGKILL)  # by the kernel, where main memory ran out
TOO_LARGE = ("memory does not suffice", "can't allocate memory")  # experiment of a GPU; torch


@dataclass(frozen=True)
class Answer:
    """What a probe found. All None: it does not fit.

    Attributes:
        train_per_second: images that are trained on.
        judged_per_second: images that are evaluated.
        memory_bytes: peak of one process.
        fixed_seconds: what a run of any length spends before it trains and after it.
    """

    train_per_second: float | None = None
    judged_per_second: float | None = None
    memory_bytes: int | None = None
    fixed_seconds: float = 0.0


def different(cells: Iterable[Cell]) -> list[Cell]:
    """The first of all cells that cost the same: one probe tells of them all."""
    first: dict[tuple[str, str], Cell] = {}
    for cell in cells:
        first.setdefault((network_key(cell), loss_key(cell)), cell)
    return list(first.values())


def kept(cell: Cell, place: Place, cache: Path) -> Answer | None:
    """The answer of an earlier probe."""
    try:
        return Answer(**json.loads(_path(cell, place, cache).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):  # none, or not one of ours: probed again
        return None


def measure(cell: Cell, place: Place, cache: Path, train: Path) -> str | None:
    """Probes one cell and keeps the answer. Returns why there is none, or None where there is.

    Args:
        cache: cache_dir.
        train: the file train.py.
    """
    path = _path(cell, place, cache)
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".probe-") as made:
        results = Path(made)
        command = [sys.executable, str(train), *cell.overrides, *_short(cell, results, cache)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode == 0:
            answer = _read(results)
        elif done.returncode in KILLED or any(w in done.stderr for w in TOO_LARGE):
            answer = Answer()
        else:
            said = done.stderr.strip().splitlines()
            errors = [line for line in said if line.startswith("Error: ")] or said[-1:]
            return errors[0].removeprefix("Error: ") if errors else f"exit code {done.returncode}"
    files.write_json(path, asdict(answer))
    return None


def figure(cell: Cell, answer: Answer) -> Figure:
    """What a run of the cell costs by a probe of it, or of one that costs the same."""
    seconds = None
    if answer.train_per_second and answer.judged_per_second and cell.images is not None:
        train = cell.images["train"] / answer.train_per_second
        after_each_epoch = cell.images["val"] / answer.judged_per_second
        judged = sum(number for split, number in cell.images.items() if split != "train")
        at_the_end = 2 * judged / answer.judged_per_second  # by the best weights and the last ones
        seconds = train + after_each_epoch + (at_the_end + answer.fixed_seconds) / cell.epochs
    return Figure(network_key(cell), loss_key(cell), seconds, answer.memory_bytes, "probe")


def _path(cell: Cell, place: Place, cache: Path) -> Path:
    about = [network_key(cell), loss_key(cell), place.kind, place.name, record.code_hash()]
    return cache / "probes" / f"{files.sha256_json(about)[:24]}.json"


def _short(cell: Cell, results: Path, cache: Path) -> list[str]:
    """The overrides that make a run short, quiet, and leave nothing behind."""
    return [
        f"results_dir={_quoted(results)}",
        f"cache_dir={_quoted(cache)}",
        "logger.name=none",
        f"trainer.epochs={EPOCHS}",
        f"trainer.max_steps={STEPS}",
        f"trainer.max_images={cell.science['training']['batch_size']}",
    ]


def _quoted(path: Path) -> str:
    """As Hydra reads any path."""
    return "'" + str(path).replace("\\", "\\\\").replace("'", "\\'") + "'"


def _read(results: Path) -> Answer:
    (folder,) = (results / "runs").glob("*/")
    with open(folder / "epochs.csv", newline="", encoding="utf-8") as file:
        rows = {row["split"]: row for row in csv.DictReader(file) if int(row["epoch"]) == EPOCHS}
    found = record.read_record(folder)
    return Answer(
        train_per_second=float(rows["train"]["images_per_second"]),
        judged_per_second=float(rows["val"]["images_per_second"]),
        memory_bytes=found["peak_memory_bytes"],
        fixed_seconds=found["seconds"]["setup"] + found["seconds"]["record"],
    )
