"""All finished runs as tables. No torch: what is here works without a GPU, and without training.

A run that cannot be read is an error that names its folder, never a missing row.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from seglab import record
from seglab.errors import RunError

KEYS = ("checkpoint", "split", "image")
LARGEST_INT32 = 2**28  # 2 tp + fp + fn of such counts still is an int32


@dataclass(frozen=True)
class Evaluation:
    """What one checkpoint counted on one split.

    Attributes:
        images: the N names, sorted.
        counts: (N, K, 1 + R, 3) int32, or int64 where some are too large for that; the images in
            the order of `images`, the classes in theirs, the region first, then each band.
    """

    images: list[str]
    counts: np.ndarray


@dataclass(frozen=True)
class StoredRun:
    """One finished run."""

    folder: Path
    record: dict[str, Any]

    @property
    def ratios(self) -> list[float]:
        """Band width / image diagonal; the first is the reported bIoU's."""
        return list(self.record["science"]["metrics"]["boundary_ratios"])

    @property
    def is_trial(self) -> bool:
        """Whether it was cut short (trainer=debug): no result, so no table shows it."""
        training = self.record["science"].get("training") or {}
        return bool(training.get("max_steps") or training.get("max_images"))

    def faults(self, shape: dict[str, Any], *, optional: bool = False) -> list[str]:
        """The keys of its record that are not what `shape` says: see `record.faults`."""
        return record.faults(self.record, shape, optional=optional)

    def epochs(self) -> pd.DataFrame:
        """epochs.csv: one row per epoch and split. Errors: RunError where it cannot be read."""
        path = self.folder / "epochs.csv"
        try:
            record.check_digest(self.record, path)
            table = pd.read_csv(path)
            for column in table.columns.drop("split", errors="ignore"):
                table[column] = pd.to_numeric(table[column])
        except (OSError, ValueError) as error:
            raise _unreadable(path, error) from None
        return table

    def counts(self, checkpoint: str, split: str) -> np.ndarray:
        """`Evaluation.counts` of one split. Errors: RunError."""
        return self.evaluations(checkpoint)[checkpoint, split].counts

    def evaluations(self, *checkpoints: str) -> dict[tuple[str, str], Evaluation]:
        """(checkpoint, split) -> its counts, of one reading of images.parquet.

        The order of the file's rows does not matter. Errors: RunError naming the file where it
        cannot be read, or has not one row for each image and class.
        """
        path = self.folder / "images.parquet"
        columns = _count_columns(self.ratios)
        try:
            record.check_digest(self.record, path)
            with pq.ParquetFile(path, read_dictionary=KEYS) as file:
                table = file.read([*KEYS, "class", *columns])
            missing = {*KEYS, "class", *columns} - set(table.column_names)
            if missing:
                raise ValueError(f"it has no column {', '.join(sorted(missing))}")
            return _evaluations(table, columns, checkpoints)
        except (OSError, ValueError, TypeError) as error:
            raise _unreadable(path, error) from None


def stored(folder: Path) -> StoredRun:
    """The finished run in a folder. Errors: RunError naming what is missing."""
    return StoredRun(folder, record.read_finished(folder))


def survey(results: Path) -> tuple[list[StoredRun], list[RunError]]:
    """The finished runs in <results>/runs by name, and what is wrong with each other folder."""
    runs, damaged = [], []
    for folder in sorted((results / "runs").glob("*/")):
        try:
            runs.append(stored(folder))
        except RunError as error:
            damaged.append(error)
    return runs, damaged


def finished_runs(results: Path) -> list[StoredRun]:
    """Every run in <results>/runs by name. Errors: RunError naming a folder that holds none."""
    runs, damaged = survey(results)
    if damaged:
        raise damaged[0]
    return runs


def _unreadable(path: Path, error: Exception) -> RunError:
    return RunError(f"{path}: cannot be read ({error}). Delete the run to do it again.")


def _count_columns(ratios: list[float]) -> list[str]:
    prefixes = ["", *(f"boundary_{ratio:g}_" for ratio in ratios)]
    return [prefix + what for prefix in prefixes for what in ("tp", "fp", "fn")]


def _evaluations(
    table: pa.Table, columns: list[str], checkpoints: tuple[str, ...]
) -> dict[tuple[str, str], Evaluation]:
    """Errors: ValueError where a split has not one row for each image and class."""
    (of_checkpoint, names), (of_split, splits), (of_image, images) = map(
        _sorted_codes, (table.column(key) for key in KEYS)
    )
    classes = table.column("class").to_numpy()
    flat = np.stack([table.column(column).to_numpy() for column in columns], axis=1)
    flat = flat.astype(np.int32 if flat.max(initial=0) <= LARGEST_INT32 else np.int64)
    found = {}
    for checkpoint in checkpoints:
        place = names.index(checkpoint) if checkpoint in names else -1
        for index, split in enumerate(splits):
            rows = np.flatnonzero((of_checkpoint == place) & (of_split == index))
            if len(rows):
                rows, here = _in_order(rows, of_image[rows], classes[rows])
                counts = flat[rows].reshape(len(here), -1, len(columns) // 3, 3)
                found[checkpoint, split] = Evaluation([images[i] for i in here], counts)
    return found


def _sorted_codes(column: pa.ChunkedArray) -> tuple[np.ndarray, list[str]]:
    """A dictionary column as (rows,) places in the sorted list of its values, and that list."""
    encoded = column.unify_dictionaries().combine_chunks()
    values = encoded.dictionary
    order = pc.array_sort_indices(values).to_numpy()
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order))
    return rank[encoded.indices.to_numpy()], values.take(pa.array(order)).to_pylist()


def _in_order(
    rows: np.ndarray, images: np.ndarray, classes: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """`rows` sorted by image and class, and the images that there are."""
    order = np.lexsort((classes, images))
    here, kinds = np.unique(images), np.unique(classes)
    found = np.stack([images[order], classes[order]])
    whole = np.stack([np.repeat(here, len(kinds)), np.tile(kinds, len(here))])
    if not np.array_equal(found, whole):
        raise ValueError("it has not one row for each image and class of a split")
    return rows[order], here
