"""ADE20K: what lies on disk becomes the right pixels, names and faults."""

import numpy as np
import pytest
import scene_trees
import trees
from PIL import Image

from seglab.data import cache, check
from seglab.data.ade20k import Ade20k
from seglab.data.preprocess import Preprocess
from seglab.data.reading import FileFaults
from seglab.data.source import IGNORE
from seglab.errors import DataError

COUNTS = {"train": 4, "val": 4}


@pytest.fixture
def root(tmp_path):
    return scene_trees.ade20k(tmp_path / "ADEChallengeData2016")


def test_labels_move_down_by_one_and_other_is_ignored(root):
    source = Ade20k(str(root), COUNTS)
    sample = source.samples("train")[0]
    assert sample.id == "ADE_train_00000001"
    stored = np.array(Image.open(sample.files[1]))
    found = source.read_mask(sample)
    assert found.dtype == np.uint8
    assert stored.min() == 0
    assert stored.max() == 150
    assert (found[stored == 0] == IGNORE).all()
    assert np.array_equal(found[stored > 0], stored[stored > 0] - 1)


def test_a_grey_photograph_has_three_equal_channels(root):
    source = Ade20k(str(root), COUNTS)
    grey = source.read_image(source.samples("val")[1])
    assert grey.shape == (28, 34, 3)
    assert (grey == grey[..., :1]).all()


def test_results_are_reported_on_validation_and_the_folder_above_will_do(root):
    source = Ade20k(str(root.parent), COUNTS)
    assert (source.splits, source.test_split) == (("train", "val"), "val")
    assert check.verdict(source, root.parent / "cache").faults == ()
    inner = Ade20k(str(root), COUNTS)
    assert [s.id for s in inner.samples("val")] == [s.id for s in source.samples("val")]


def test_the_names_are_the_first_synonyms_or_else_numbers(root):
    names = Ade20k(str(root), COUNTS).classes
    assert (len(names), names[0], names[149]) == (150, "thing 1", "thing 150")
    assert len(Ade20k(str(root), COUNTS).colours) == 150
    (root / "objectInfo150.txt").unlink()
    assert Ade20k(str(root), COUNTS).classes[:2] == ("class 1", "class 2")


@pytest.mark.parametrize("keep", [149, 1])
def test_a_list_of_names_that_is_cut_is_refused(root, keep):
    path = root / "objectInfo150.txt"
    path.write_text("\n".join(path.read_text().splitlines()[: keep + 1]))
    with pytest.raises(DataError, match=r"objectInfo150\.txt: expected a line of headings and"):
        Ade20k(str(root), COUNTS)


def test_every_fault_is_told_at_once(root, tmp_path):
    images, masks = root / "images/training", root / "annotations/training"
    Image.fromarray(np.full((26, 37), 151, np.uint8)).save(masks / "ADE_train_00000001.png")
    Image.fromarray(np.zeros((28, 34, 3), np.uint8)).save(masks / "ADE_train_00000002.png")
    Image.fromarray(np.zeros((9, 9), np.uint8)).save(masks / "ADE_train_00000003.png")
    (masks / "ADE_train_00000004.png").rename(masks / "ADE_train_00000009.png")
    (images / "._ADE_train_00000001.jpg").write_bytes(b"Mac OS X")  # clutter, no fault
    (images / "ADE_train_12.jpg").write_bytes(b"")
    faults = {str(f) for f in check.verdict(Ade20k(str(root), COUNTS), tmp_path).faults}
    assert faults == {
        "annotations/training/ADE_train_00000001.png: label 151 (962 pixels) outside 0 (other) and "
        "1 .. 150",
        "annotations/training/ADE_train_00000002.png: colour mask (mode RGB), expected 8 bit grey. "
        "Its labels would be misread",
        "annotations/training/ADE_train_00000003.png: mask 9 x 9 pixels, image 30 x 31 (rows x "
        "columns)",
        "annotations/training/ADE_train_00000004.png: missing",
        "annotations/training/ADE_train_00000009.png: no image for it",
        r"images/training/ADE_train_12.jpg: expected ADE_train_\d{8}\.jpg",
    }


def test_an_unpacked_part_is_noticed(root, tmp_path):
    (fault, *_) = check.verdict(Ade20k(str(root), {"train": 20210}), tmp_path).faults
    assert str(fault) == "split train: 4 images, expected 20210"
    (root / "annotations/validation").rename(root / "annotations/val")
    with pytest.raises(DataError, match="no folder annotations/validation\n"):
        Ade20k(str(root), COUNTS).samples("train")


def test_prepared_scenes_of_many_sizes_become_squares_with_ignored_borders(root, tmp_path):
    source, size = Ade20k(str(root), COUNTS), Preprocess(32, "square")
    verdict = check.verdict(source, tmp_path, trees.quiet)
    cache.prepare(source, size, tmp_path, verdict, trees.quiet)
    split = cache.open_split(source, size, tmp_path, verdict, "val")
    assert isinstance(split, cache.PreparedSplit)
    for index, sample in enumerate(source.samples("val")):
        image, mask = split[index]
        wanted = size(source.read_image(sample), source.read_mask(sample))
        assert np.array_equal(image, wanted[0])
        assert np.array_equal(mask, wanted[1])
        assert (mask[:, 31] == IGNORE).any() or (mask[31] == IGNORE).any()


def test_a_cut_photograph_is_a_fault(root):
    source = Ade20k(str(root), COUNTS)
    path = source.samples("train")[0].files[0]
    path.write_bytes(path.read_bytes()[:-60])
    with pytest.raises(FileFaults, match="damaged or truncated"):
        source.read_image(source.samples("train")[0])
