"""X-rays and folders of one's own: what lies on disk becomes the right pixels and splits."""

import csv

import numpy as np
import pytest
import trees
from PIL import Image

from seglab.data import check
from seglab.data.covid_qu_ex import CovidQuEx
from seglab.data.cxr import ChestXRays, eight_bits
from seglab.data.folder import Folder
from seglab.data.partition import partition
from seglab.data.reading import FileFaults
from seglab.errors import ConfigError, DataError

SPLIT = {"val": 0.2, "test": 0.2, "seed": 0}
ALL = ["COVID-19", "Non-COVID", "Normal"]


def ids(source):
    return {split: [sample.id for sample in source.samples(split)] for split in source.splits}


# ---------------------------------------------------------------- partition


def test_a_group_stays_together_and_the_shares_are_met():
    names = [f"p{i // 4}_{i}" for i in range(100)]
    found = partition(names, lambda n: n.split("_")[0], {"val": 0.1, "test": 0.2}, 7)
    assert sorted(sum(found.values(), [])) == sorted(names)
    groups = [{name.split("_")[0] for name in found[split]} for split in found]
    assert sum(map(len, groups)) == len(set.union(*groups)) == 25
    assert [len(found[split]) for split in ("train", "val", "test")] == [68, 12, 20]
    again = partition(reversed(names), lambda n: n.split("_")[0], {"val": 0.1, "test": 0.2}, 7)
    assert again == found
    other = partition(names, lambda n: n.split("_")[0], {"val": 0.1, "test": 0.2}, 8)
    assert other != found


@pytest.mark.parametrize("shares", [{"val": 0.5, "test": 0.5}, {"val": 0, "test": 0.1}, {"val": 1}])
def test_shares_that_cannot_be_are_refused(shares):
    with pytest.raises(ConfigError, match=r"dataset\.split=.*val and test must be shares"):
        partition("abc", str, shares, 0)
    with pytest.raises(
        ConfigError, match=r"2 in 2 groups leave nothing for val\. .*dataset\.split\.val"
    ):
        partition("ab", str, {"val": 0.1, "test": 0.4}, 0)


# ---------------------------------------------------------------- COVID-QU-Ex


@pytest.mark.parametrize("doubled", [True, False])
@pytest.mark.parametrize("mask", ["lung", "infection"])
def test_covid_is_found_in_doubled_folders_and_noise_in_masks_is_cut(tmp_path, mask, doubled):
    source = CovidQuEx(trees.covid_qu_ex(tmp_path, doubled=doubled), mask, ALL)
    found = ids(source)
    assert {split: len(names) for split, names in found.items()} == dict.fromkeys(found, 6)
    assert found["val"][0] == "COVID-19/covid-19_Val0"
    areas = {s.id: int(source.read_mask(s).sum()) for s in source.samples("train")}
    assert all(area > 50 for name, area in areas.items() if name.startswith("COVID"))
    empty = [area == 0 for name, area in areas.items() if not name.startswith("COVID")]
    assert all(empty) if mask == "infection" else not any(empty)
    assert check.verdict(source, tmp_path / "cache").faults == ()


def test_covid_of_some_diagnoses_and_what_is_wrong_with_it(tmp_path):
    root = trees.covid_qu_ex(tmp_path)
    assert len(CovidQuEx(root, "infection", ["COVID-19"]).samples("test")) == 2
    (stray,) = root.glob("Lung*/Lung*/Val/Normal/images/normal_Val1.png")
    stray.unlink()
    (fault,) = CovidQuEx(root, "lung", ALL).layout_faults()
    assert fault.path.endswith("Val/Normal/lung masks/normal_Val1.png")
    with pytest.raises(ConfigError, match=r"dataset\.mask=heart"):
        CovidQuEx(root, "heart", ALL)
    with pytest.raises(ConfigError, match=r"dataset\.diagnoses=\['Flu'\]"):
        CovidQuEx(root, "lung", ["Flu"])
    with pytest.raises(DataError, match="no folder Lung Segmentation Data"):
        CovidQuEx(root / "Infection Segmentation Data", "lung", ALL).samples("train")


# ---------------------------------------------------------------- Montgomery, Shenzhen


def test_montgomerys_lungs_are_united_from_one_bit_masks(tmp_path):
    source = ChestXRays(trees.chest_xrays(tmp_path), ["montgomery"], SPLIT)
    sample = source.samples("train")[0]
    left, right = (np.array(Image.open(path)) for path in sample.files[1:])
    assert left.dtype == bool
    assert np.array_equal(source.read_mask(sample), (left | right).astype(np.uint8))
    Image.fromarray(right[:-2]).save(sample.files[2])
    with pytest.raises(FileFaults, match="left and right mask of 32 x 32 and 30 x 32 pixels"):
        source.read_mask(sample)


def test_shenzhen_without_the_images_that_have_no_mask(tmp_path):
    source = ChestXRays(trees.chest_xrays(tmp_path), ["shenzhen"], SPLIT)
    names = sum(ids(source).values(), [])
    assert sorted(names) == [f"CHNCXR_{n:04d}_{n % 2}" for n in range(3, 9)]
    assert source.layout_faults() == []  # Thumbs.db is clutter
    (tmp_path / "mask" / "CHNCXR_0099_0_mask.png").write_bytes(b"")
    fresh = ChestXRays(tmp_path, ["shenzhen"], SPLIT)
    assert [str(f) for f in fresh.layout_faults()] == [
        "mask/CHNCXR_0099_0_mask.png: no image for it"
    ]


def test_a_radiograph_of_16_bits_is_seen_as_the_same_one_of_8(tmp_path):
    root = trees.chest_xrays(tmp_path / "cxr")
    source = ChestXRays(root, ["montgomery", "shenzhen"], SPLIT)
    modes = set()
    for split in source.splits:
        for sample in source.samples(split):
            with Image.open(sample.files[0]) as image:
                modes.add(image.mode)
                stored = np.array(image)
            grey = stored[..., 0] if stored.ndim == 3 else stored
            expected = grey // 16 if grey.dtype == np.uint16 else grey
            seen = source.read_image(sample)
            assert seen.dtype == np.uint8
            np.testing.assert_array_equal(seen, np.repeat(expected[..., None], 3, axis=-1))
    assert modes == {"L", "RGB", "I;16"}
    assert check.verdict(source, tmp_path / "cache").faults == ()


@pytest.mark.parametrize(
    ("brightest", "divisor"),
    [(0, 1), (255, 1), (256, 2), (1023, 4), (2048, 16), (4095, 16), (4096, 32), (65535, 256)],
)
def test_of_16_bits_those_that_an_image_fills_are_kept(brightest, divisor):
    grey = np.array([[0, brightest // 3, brightest]], np.uint16)
    found = eight_bits(grey)
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, grey // divisor)
    assert brightest < 128 or found.max() >= 128  # of 8 bits the upper half is reached


def test_16_bits_stay_refused_elsewhere(tmp_path):
    root = trees.folder(tmp_path / "own")
    source = own(root)
    sample = source.samples("train")[0]
    Image.fromarray(np.full((32, 32), 4000, np.uint16)).save(sample.files[0])
    (fault,) = check.verdict(source, tmp_path / "cache").faults
    assert str(fault).endswith("mode I;16, expected 8 bit RGB or grey")


def test_both_sites_together(tmp_path):
    root = trees.chest_xrays(tmp_path)
    source = ChestXRays(root, ["shenzhen", "montgomery"], SPLIT)
    assert source.name == "cxr"
    assert len(sum(ids(source).values(), [])) == 12
    with pytest.raises(ConfigError, match=r"dataset\.sites=\['mars'\]"):
        ChestXRays(root, ["mars"], SPLIT)
    (root / "mask").rename(root / "masks")
    with pytest.raises(DataError, match="no folder mask\n"):
        ChestXRays(root, ["shenzhen"], SPLIT).samples("train")


# ---------------------------------------------------------------- a folder of one's own


def own(root, **changed):
    given = {
        "images": "images", "masks": "masks", "mask_suffix": "", "table": None,
        "classes": ["blob"], "zero_means_ignore": False, "split": SPLIT, "group": None,
    }  # fmt: skip
    return Folder(str(root), **given | changed)


def test_a_folder_pairs_by_name_and_keeps_patients_together(tmp_path):
    source = own(trees.folder(tmp_path), group="^(p[0-9]+)_")
    found = ids(source)
    assert [len(found[split]) for split in ("train", "val", "test")] == [6, 2, 2]
    for names in found.values():
        assert {f"{n[:-1]}0" for n in names} | {f"{n[:-1]}1" for n in names} == set(names)
    sample = source.samples("test")[0]
    assert set(np.unique(source.read_mask(sample))) == {0, 1}
    assert check.verdict(source, tmp_path / "cache").faults == ()


def test_a_missing_mask_and_a_stray_one_are_told(tmp_path):
    trees.folder(tmp_path)
    (tmp_path / "masks" / "p0_0.png").rename(tmp_path / "masks" / "other.png")
    faults = [str(f) for f in check.verdict(own(tmp_path), tmp_path / "cache").faults]
    assert "masks/other.png: no image for it" in faults
    assert any("p0_0.png: missing" in fault for fault in faults)
    (tmp_path / "images" / "p1_1.jpg").write_bytes(b"")
    with pytest.raises(DataError, match=r"two files of one name: p1_1\.jpg and p1_1\.png"):
        own(tmp_path).samples("train")


def test_several_classes_with_and_without_zero_as_ignored(tmp_path):
    trees.folder(tmp_path)
    labels = np.arange(4, dtype=np.uint8).repeat(8)[:, None].repeat(32, 1)
    for path in (tmp_path / "masks").iterdir():
        Image.fromarray(labels).save(path)
    three = own(tmp_path, classes=["a", "b", "c"], zero_means_ignore=True)
    found = three.read_mask(three.samples("train")[0])
    assert [int(found[row, 0]) for row in (0, 8, 16, 24)] == [255, 0, 1, 2]
    four = own(tmp_path, classes=list("abcd"))
    assert np.array_equal(four.read_mask(four.samples("train")[0]), labels)
    with pytest.raises(FileFaults, match=r"label 3 \(256 pixels\) outside the classes and 255"):
        own(tmp_path, classes=list("abc")).read_mask(three.samples("train")[0])


def test_a_table_names_the_pairs_and_the_splits(tmp_path):
    trees.folder(tmp_path)
    with open(tmp_path / "pairs.csv", "w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["image", "mask", "split"])
        for number, split in enumerate(["train", "train", "val", "test"]):
            table.writerow([f"images/p{number}_0.png", f"masks/p{number}_0.png", split])
    source = own(tmp_path, table="pairs.csv")
    assert ids(source)["train"] == ["images/p0_0", "images/p1_0"]
    assert source.read_mask(source.samples("val")[0]).any()
    (tmp_path / "pairs.csv").write_text("image,mask,split\na.png,b.png,tset\n")
    with pytest.raises(DataError, match=r"pairs\.csv, line 2: split 'tset'"):
        own(tmp_path, table="pairs.csv").samples("train")
    (tmp_path / "pairs.csv").write_text("image;mask\n")
    with pytest.raises(DataError, match=r"pairs\.csv: must have the columns"):
        own(tmp_path, table="pairs.csv").samples("train")


def written(path, rows):
    with open(path, "w", newline="") as file:
        csv.writer(file).writerows([["image", "mask", "split"], *rows])
    return path.name


def test_a_table_that_tears_a_patient_apart_is_refused_by_line(tmp_path):
    """The file's name says the patient, whichever folder it lies in; or the folder does."""
    rows = [
        ["train/p1_0.png", "m/p1_0.png", "train"],
        ["test/p2_0.png", "m/p2_0.png", "test"],
        ["val/p1_1.png", "m/p1_1.png", "val"],
    ]
    table = written(tmp_path / "pairs.csv", rows)
    with pytest.raises(DataError) as error:
        own(tmp_path, table=table, group="^(.*)_").samples("train")
    assert str(error.value) == (
        f"{tmp_path / table}, line 4: p1 (dataset.group) is in val, and in train on line 2. "
        "Put all of a group into one split."
    )
    for whole in (own(tmp_path, table=table), own(tmp_path, table=table, group="^(.*)/")):
        assert ids(whole) == {"train": ["train/p1_0"], "val": ["val/p1_1"], "test": ["test/p2_0"]}
    rows[1][0] = "val/p2_0.png"
    written(tmp_path / table, rows)
    with pytest.raises(DataError, match=r"line 4: val \(dataset\.group\) is in val, and in test"):
        own(tmp_path, table=table, group="^(.*)/").samples("train")
    with pytest.raises(DataError, match=r"dataset\.group=\^q\(\.\): finds nothing in p1_0"):
        own(tmp_path, table=table, group="^q(.)").samples("train")


@pytest.mark.parametrize(
    ("row", "says"),
    [
        (["a.png", "", "train"], r"line 2: no mask\. .*all background"),
        (["", "b.png", "train"], r"line 2: no image\. "),
        (["a.png", " ", "train"], r"line 2: no mask\. "),
        (["a.png"], r"line 2: no mask\. "),
    ],
)
def test_an_empty_cell_of_a_table_is_named(tmp_path, row, says):
    source = own(tmp_path, table=written(tmp_path / "pairs.csv", [row]))
    with pytest.raises(DataError, match=rf"pairs\.csv, {says}"):
        source.samples("train")


@pytest.mark.parametrize(
    ("changed", "match"),
    [
        ({"classes": []}, r"dataset\.classes=\[\]"),
        ({"zero_means_ignore": True}, "of one class, 0 is the background"),
        ({"group": "("}, r"dataset\.group=\(: no regular expression"),
        ({"group": "p"}, "needs one group in brackets"),
    ],
)
def test_what_does_not_fit_together_is_refused(tmp_path, changed, match):
    with pytest.raises(ConfigError, match=match):
        own(trees.folder(tmp_path), **changed)


def test_a_group_that_finds_nothing_and_folders_without_images_are_told(tmp_path):
    trees.folder(tmp_path)
    with pytest.raises(DataError, match=r"dataset\.group=\^\(q\): finds nothing in p0_0"):
        own(tmp_path, group="^(q)").samples("train")
    with pytest.raises(DataError, match="no folder scans"):
        own(tmp_path, images="scans").samples("train")
    (tmp_path / "none").mkdir()
    with pytest.raises(DataError, match="no image in none"):
        own(tmp_path, images="none").samples("train")
