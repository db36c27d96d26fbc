"""A loss's planes: made in a worker or read beside the prepared arrays, always the same."""

import pickle

import numpy as np
import pytest
from trees import quiet

from seglab.data import planes
from seglab.data.cache import open_split, prepare
from seglab.data.check import check
from seglab.data.nuclei_strips import NucleiStrips
from seglab.data.preprocess import Preprocess
from seglab.data.shapes import Shapes
from seglab.data.source import IGNORE
from seglab.errors import DataError
from seglab.losses.weighted import ShapeAware


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


# ---------------------------------------------------------------- of instances


SHAPE_AWARE = ShapeAware(None, 10.0, 5.0, None)
AS_IT_IS = Preprocess(None, "none")


def nuclei(folder, own):
    """The training windows from the files, and prepared."""
    source = NucleiStrips(window=128, stride=128)
    found = check(source, folder, quiet)
    files = open_split(source, own, folder, found, "train")
    prepare(source, own, folder, found, quiet)
    return files, open_split(source, own, folder, found, "train")


def contacts(numbers, mask):
    """(H, W) bool: counted pixels of an object whose right neighbour is of another object."""
    whole = np.where(mask == IGNORE, 0, numbers).astype(int)
    touches = np.zeros(mask.shape, bool)
    left, right = whole[:, :-1], whole[:, 1:]
    touches[:, :-1] = (left > 0) & (right > 0) & (left != right)
    return touches


def test_where_nuclei_touch_the_plane_is_high_though_their_masks_join(tmp_path):
    split, _ = nuclei(tmp_path, AS_IT_IS)
    plane_of = planes.of(split, SHAPE_AWARE.plane, "key")
    met = missed = 0
    for index in range(len(split)):
        _, mask = split[index]
        touching = contacts(split.instances(index), mask)
        met += touching.sum()
        # d1 = 0 and d2 = 1 pixel: 1 + 10 exp(-1 / 50)
        assert (plane_of(index, mask)[touching] > 10.8).all()
        missed += (SHAPE_AWARE.plane(mask)[touching] < 5).sum()
    assert met > 100
    assert missed > 100  # of connected components it would not be


@pytest.mark.parametrize("own", [AS_IT_IS, Preprocess(96, "square")])
def test_prepared_planes_of_instances_are_the_computed_ones(tmp_path, own):
    files, arrays = nuclei(tmp_path, own)
    planes.prepare(arrays, SHAPE_AWARE.plane, "key", quiet)
    read = planes.of(arrays, SHAPE_AWARE.plane, "key")
    assert isinstance(read, planes.Prepared)
    computed = pickle.loads(pickle.dumps(planes.of(files, SHAPE_AWARE.plane, "key")))
    assert isinstance(computed, planes.Computed)
    of_components = 0
    for index in range(len(files)):
        mask = files[index][1]
        np.testing.assert_array_equal(read(index, mask), computed(index, mask))
        of_components += np.array_equal(read(index, mask), SHAPE_AWARE.plane(mask))
    assert of_components < len(files)


def test_instances_are_resized_and_padded_with_their_mask(tmp_path):
    files, arrays = nuclei(tmp_path, Preprocess(50, "square"))
    for split in (files, arrays):
        for index in range(len(split)):
            mask, numbers = split[index][1], split.instances(index)
            counted = mask != IGNORE
            np.testing.assert_array_equal((numbers > 0)[counted], (mask == 1)[counted])


def test_a_data_set_without_instances_is_given_connected_components(split):
    plane_of = planes.of(split, SHAPE_AWARE.plane, "key")
    mask = split[0][1]
    assert split.instances(0) is None
    np.testing.assert_array_equal(plane_of(0, mask), SHAPE_AWARE.plane(mask))


def test_planes_made_before_the_instances_were_known_are_not_read(tmp_path, monkeypatch):
    _, arrays = nuclei(tmp_path, AS_IT_IS)
    with monkeypatch.context() as unknown:
        unknown.setattr(NucleiStrips, "read_instances", lambda *_: None)
        planes.prepare(arrays, SHAPE_AWARE.plane, "key", quiet)
        assert isinstance(planes.of(arrays, SHAPE_AWARE.plane, "key"), planes.Prepared)
    assert isinstance(planes.of(arrays, SHAPE_AWARE.plane, "key"), planes.Computed)
