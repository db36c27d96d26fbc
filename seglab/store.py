"""All finished runs as tables. No torch: what is here works without a GPU, and without training.

A run that cannot be read is an error that names its folder, never a missing row.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from seglab import record
from seglab.errors import RunError


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
        training = self.record["science"].get("training", {})
        return bool(training.get("max_steps") or training.get("max_images"))

    def epochs(self) -> pd.DataFrame:
        """epochs.csv: one row per epoch and split."""
        return pd.read_csv(self.folder / "epochs.csv")

    def images(self) -> pd.DataFrame:
        """images.parquet: one row per checkpoint, split, image and class."""
        path = self.folder / "images.parquet"
        try:
            return pd.read_parquet(path)
        except (OSError, ValueError) as error:
            raise RunError(
                f"{path}: cannot be read ({error}). Delete the run to do it again."
            ) from None

    def counts(self, checkpoint: str, split: str) -> np.ndarray:
        """(N, K, 1 + R, 3) int64: region first, then the bands in the order of `ratios`."""
        return counts_of(self.images(), checkpoint, split, self.ratios)


def counts_of(images: pd.DataFrame, checkpoint: str, split: str, ratios: list[float]) -> np.ndarray:
    """(N, K, 1 + R, 3) int64 from the rows of one run's images.parquet."""
    rows = images[(images["checkpoint"] == checkpoint) & (images["split"] == split)]
    classes = rows["class"].nunique()
    prefixes = ["", *(f"boundary_{ratio:g}_" for ratio in ratios)]
    columns = [prefix + what for prefix in prefixes for what in ("tp", "fp", "fn")]
    return rows[columns].to_numpy(np.int64).reshape(-1, max(classes, 1), len(prefixes), 3)


def finished_runs(results: Path) -> list[StoredRun]:
    """Every run in <results>/runs, in the order of their names."""
    runs = []
    for folder in sorted((results / "runs").glob("*/")):
        found = record.read_record(folder)
        if isinstance(found, dict) and found.get("status") == "finished":
            runs.append(StoredRun(folder, found))
        else:
            raise RunError(f"{folder}: holds no finished run. Delete the folder.")
    return runs
