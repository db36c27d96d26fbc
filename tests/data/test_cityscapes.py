"""Cityscapes: the official ids, and pairs by name."""

import numpy as np
import pytest
from PIL import Image
from trees import COUNTS, city_paths, city_source, noise, save

from seglab.data.cityscapes import LABEL_IDS, Cityscapes, to_label_ids, train_ids
from seglab.data.source import IGNORE
from seglab.errors import ConfigError, DataError


def test_tables_names_and_colours_are_the_official_ones():
    official = pytest.importorskip("cityscapesscripts.helpers.labels")
    table = train_ids()
    for label in official.labels:
        expected = IGNORE if label.trainId in (-1, 255) else label.trainId
        assert table[label.id % 256] == expected, label.name
    used = sorted((x for x in official.labels if 0 <= x.trainId < 255), key=lambda x: x.trainId)
    assert Cityscapes.classes == tuple(label.name for label in used)
    assert Cityscapes.colours == tuple(label.color for label in used)
    assert tuple(label.id for label in used) == LABEL_IDS


def test_label_ids_and_train_ids_are_each_others_inverse():
    predicted = np.arange(19, dtype=np.int64)
    np.testing.assert_array_equal(train_ids()[to_label_ids(predicted)], predicted)
    assert to_label_ids(np.array([IGNORE])) == 0
    assert to_label_ids(predicted).dtype == np.uint8


def test_images_and_masks_are_paired_by_name(city_root):
    source = city_source(city_root)
    assert [s.id for s in source.samples("train")] == [
        "aachen_000000_000019",
        "aachen_000001_000019",
        "aachen_000002_000019",
        "bremen_000000_000007",
    ]
    for split in source.splits:
        for sample in source.samples(split):
            assert sample.files == city_paths(city_root, split, sample.id)
    assert source.layout_faults() == []
    assert source.test_split == "val"


def test_a_missing_mask_does_not_shift_the_pairs(city_root):
    """frankfurt's frames have gaps; sorted lists put side by side would pair wrongly."""
    city_paths(city_root, "val", "frankfurt_000000_000294")[1].unlink()
    for sample in city_source(city_root).samples("val"):
        assert sample.files[1].name == f"{sample.id}_gtFine_labelIds.png"


def test_masks_hold_train_ids_and_ignore_the_rest(city_root):
    source = city_source(city_root)
    for sample in source.samples("val"):
        raw = np.array(Image.open(sample.files[1]))
        mask = source.read_mask(sample)
        for label in np.unique(raw):
            expected = LABEL_IDS.index(label) if label in LABEL_IDS else IGNORE
            assert (mask[raw == label] == expected).all()
        assert (mask[0, :3] == IGNORE).all(), "the licence plate, -1"
        np.testing.assert_array_equal(
            source.read_image(sample), np.array(Image.open(sample.files[0]))
        )


def test_both_kinds_of_label_files_give_the_same_masks(city_root):
    by_label_ids = city_source(city_root)
    masks = {}
    for split in by_label_ids.splits:
        for sample in by_label_ids.samples(split):
            masks[sample.id] = by_label_ids.read_mask(sample)
            name = sample.files[1].name.replace("labelIds", "labelTrainIds")
            save(sample.files[1].with_name(name), masks[sample.id])
    by_train_ids = city_source(city_root, "labelTrainIds")
    for split in by_train_ids.splits:
        for sample in by_train_ids.samples(split):
            np.testing.assert_array_equal(by_train_ids.read_mask(sample), masks[sample.id])


def test_train_id_files_that_were_never_made_say_how_to_make_them(city_root):
    with pytest.raises(DataError, match="csCreateTrainIdLabelImgs"):
        city_source(city_root, "labelTrainIds").samples("train")


def test_a_missing_root_shows_the_expected_tree(tmp_path):
    with pytest.raises(DataError) as error:
        city_source(tmp_path / "nowhere")
    message = str(error.value)
    assert f"dataset.root={tmp_path / 'nowhere'}" in message
    assert "leftImg8bit/{train,val}/<city>" in message


@pytest.mark.parametrize("folder", ["leftImg8bit/val", "gtFine/train", "gtFine"])
def test_a_wrong_layout_names_the_missing_folder(city_root, folder):
    (city_root / folder).rename(city_root / "elsewhere")
    with pytest.raises(DataError, match=f"no folder {folder}"):
        city_source(city_root).samples("train")


def test_hidden_files_are_overlooked(city_root):
    city = city_root / "leftImg8bit" / "train" / "aachen"
    save(city / "._aachen_000000_000019_leftImg8bit.png", noise(0, 4, 4))
    (city / "Thumbs.db").write_bytes(b"")
    source = city_source(city_root)
    assert len(source.samples("train")) == COUNTS["train"]
    assert source.layout_faults() == []


def test_unknown_label_files_are_refused(city_root):
    with pytest.raises(ConfigError, match=r"dataset\.labels=color"):
        city_source(city_root, "color")
