"""A loss's planes: made in a worker or read beside the prepared arrays, always the same."""

import pickle

import numpy as np
import pytest
from trees import quiet

from seglab.data import planes
from seglab.data.cache import open_split, prepare
from seglab.data.check import check
from seglab.data.preprocess import Preprocess
from seglab.data.shapes import Shapes
from seglab.errors import DataError


def half(mask):
    return mask.astype(np.float32) / 2


@pytest.fixture
def split(tmp_path):
    source = Shapes(
        num_classes=4, images={"train": 3, "val": 1, "test": 1}, height=8, width=12, foreground=0.4,
        imbalance=1, thin_lines=1, empty=0, ignored=0.1, noise=5, seed=0,
    )  # fmt: skip
    found = check(source, tmp_path, quiet)
    own = Preprocess(None, "none")
    prepare(source, own, tmp_path, found, quiet)
    return open_split(source, own, tmp_path, found, "train")


def test_prepared_planes_are_the_computed_ones(split):
    computed = planes.of(split, half, "key")
    assert isinstance(computed, planes.Computed)
    planes.prepare(split, half, "key", quiet)
    read = pickle.loads(pickle.dumps(planes.of(split, half, "key")))
    assert isinstance(read, planes.Prepared)
    for index in range(len(split)):
        mask = split[index][1]
        assert read(index, mask).dtype == np.float32
        np.testing.assert_array_equal(read(index, mask), computed(index, mask))


def test_planes_of_another_loss_are_not_read(split):
    planes.prepare(split, half, "key", quiet)
    assert isinstance(planes.of(split, half, "another"), planes.Computed)


def test_a_maker_that_fails_leaves_nothing(split):
    before = sorted(split.folder.iterdir())
    with pytest.raises(ZeroDivisionError):
        planes.prepare(split, lambda _: 1 / 0, "key", quiet)
    assert sorted(split.folder.iterdir()) == before


def test_too_little_room_is_said_before_anything_is_written(split, monkeypatch):
    class Full:
        free = 10

    monkeypatch.setattr(planes.shutil, "disk_usage", lambda _: Full)
    with pytest.raises(DataError, match="the disk has 10 B left"):
        planes.prepare(split, half, "key", quiet)
