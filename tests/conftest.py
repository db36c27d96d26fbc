"""What the tests of several rooms share: the real configuration, pointed at a temporary folder."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

from seglab import config  # noqa: E402 - after the environment
from seglab.config import Settings  # noqa: E402

ROOT = Path(__file__).resolve().parents[1]

# one short run that trains in seconds: 2 epochs of 3 steps on made 32 x 32 images
TINY = (
    "dataset=shapes",
    "dataset.height=32",
    "dataset.width=32",
    "dataset.num_classes=3",
    "dataset.images={train: 6, val: 5, test: 3}",
    "encoder=mobilenet_v2",
    "trainer=cpu",
    "trainer.epochs=2",
    "trainer.batch_size=2",
    "logger=none",
)


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """A results folder of the test's own."""
    return tmp_path / "results"


@pytest.fixture
def read(results: Path) -> Callable[..., Settings]:
    """read("loss=ce", ...): what `python train.py loss=ce ...` reads, writing to `results`."""

    def read_(*overrides: str) -> Settings:
        return config.read(*config.compose([f"results_dir='{results}'", *overrides]))

    return read_


@pytest.fixture
def tiny(read: Callable[..., Settings]) -> Callable[..., Settings]:
    """The same for a run of seconds."""
    return lambda *overrides: read(*TINY, *overrides)


@pytest.fixture
def cuda() -> torch.device:
    """The GPU, for the tests with the mark `gpu`.

    Where there is none they can say nothing: they are skipped, and pytest's last lines name them.
    """
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA GPU")
    return torch.device("cuda")
