"""Volumes and their slices: one orientation, splits by patient, every fault of the folders told."""

import gzip
import itertools
import json
import pickle
import shutil
import sys
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import nibabel
import nilearn
import numpy as np
import pytest
from trees import NIFTI_CASES, decathlon, nifti, quiet, save_nifti, scan

from seglab.data import cache, volume_arrays, volumes
from seglab.data import check as check_module
from seglab.data.check import check
from seglab.data.nifti import NiftiSlices, NiftiVolumes
from seglab.data.preprocess import Preprocess
from seglab.data.reading import FileFaults
from seglab.data.source import IGNORE
from seglab.data.volume_arrays import FileVolumes, PreparedVolumes
from seglab.errors import ConfigError, DataError

SHARED = {
    "split": {"val": 0.2, "test": 0.3, "seed": 0},
    "split_file": None,
    "fold": 0,
    "group": None,
    "test": "drawn",
    "modalities": None,
    "window": None,
    "axis": "auto",
    "label_affine": "must_agree",
}
WHOLE = Preprocess(None, "none")
PATIENTS = "^(.*)_"


def whole(root, **changed) -> NiftiVolumes:
    return NiftiVolumes(**{"root": str(root), "spacing": None, **SHARED, **changed})


def slices(root, **changed) -> NiftiSlices:
    own = {"percentiles": [0.5, 99.5], "empty_slices": "keep"}
    return NiftiSlices(**{"root": str(root), **own, **SHARED, **changed})


def everything(source):
    return [sample for split in source.splits for sample in source.samples(split)]


def faults_of(source, tmp_path):
    return [(f.path, f.reason) for f in check(source, tmp_path / "cache", quiet).faults]


def the_fault(source, tmp_path):
    faults = faults_of(source, tmp_path)
    assert len(faults) == 1, faults
    return faults[0]


def describe(root, **changed):
    """Changes keys of dataset.json."""
    path = root / "dataset.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changed}))


@pytest.fixture
def root(tmp_path):
    return nifti(tmp_path / "Dataset001")


@pytest.fixture
def one(tmp_path):
    """Saves one image and one label of given affines, and reads both; and the image's grid."""

    def one_(image, labels, affine, label_affine=None, like=None, label_like=None, axis="auto"):
        paths = tmp_path / "image.nii", tmp_path / "label.nii"
        save_nifti(paths[0], image, affine, like)
        save_nifti(paths[1], labels, affine if label_affine is None else label_affine, label_like)
        return (
            volumes.read_image(paths[:1], 1, axis)[..., 0],
            volumes.read_labels(paths[1], paths[0], axis, trust_affine=True),
            volumes.read_grid(paths[0]),
        )

    return one_


# Layouts


@pytest.mark.parametrize("make", [nifti, decathlon])
@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("kind", [whole, slices])
def test_a_whole_folder_has_no_fault_and_all_its_cases(make, channels, kind, tmp_path):
    source = kind(make(tmp_path / "data", channels=channels), group=PATIENTS)
    assert faults_of(source, tmp_path) == []
    cases = [case.name for split in source.splits for case in source.cases(split)]
    assert sorted(cases) == sorted(NIFTI_CASES)
    assert source.classes == ("background", "a", "b")


def test_decathlon_and_nnu_net_give_the_same_voxels(tmp_path):
    ours = whole(nifti(tmp_path / "n", channels=2))
    theirs = whole(decathlon(tmp_path / "d", channels=2))
    for mine, other in zip(everything(ours), everything(theirs), strict=True):
        assert mine.id == other.id
        np.testing.assert_array_equal(ours.read_image(mine), theirs.read_image(other))
        np.testing.assert_array_equal(ours.read_mask(mine), theirs.read_mask(other))


def test_nnu_net_1_lists_cases_whose_files_are_numbered(tmp_path):
    root = nifti(tmp_path / "data", channels=2)
    expected = {s.id: whole(root).read_image(s) for s in everything(whole(root))}
    rows = [
        {"image": f"./imagesTr/{case}.nii.gz", "label": f"./labelsTr/{case}.nii.gz"}
        for case in NIFTI_CASES
    ]
    old = {
        "modality": {"0": "M0", "1": "M1"},
        "labels": {"0": "background", "1": "a", "2": "b"},
        "training": rows,
        "test": [],
    }
    (root / "dataset.json").write_text(json.dumps(old))
    source = whole(root)
    assert faults_of(source, tmp_path) == []
    for sample in everything(source):
        np.testing.assert_array_equal(source.read_image(sample), expected[sample.id])


def test_one_label_makes_a_binary_task(tmp_path):
    root = nifti(tmp_path / "data", labels=("background", "lesion", "ignore"))
    source = whole(root)
    assert source.classes == ("lesion",)
    assert len(source.colours) == source.num_classes == 1


def test_the_label_ignore_counts_nowhere(tmp_path):
    source = whole(nifti(tmp_path / "data", labels=("background", "lesion", "ignore")))
    sample = source.samples("train")[0]
    labels = whole(nifti(tmp_path / "same")).read_mask(sample)
    mask = source.read_mask(sample)
    np.testing.assert_array_equal(mask == IGNORE, labels == 2)
    np.testing.assert_array_equal(mask[mask != IGNORE], labels[labels != 2])
    found = check(source, tmp_path / "cache", quiet)
    assert found.faults == ()
    assert found.ignored["train"] == (labels == 2).sum() * len(source.samples("train"))


@pytest.mark.parametrize("pick", [["M2", "M0"], [2, 0], ["M2", 0]])
@pytest.mark.parametrize("make", [nifti, decathlon])
def test_modalities_are_chosen_by_name_or_number(make, pick, tmp_path):
    root = make(tmp_path / "data", channels=3)
    every, some = whole(root), whole(root, modalities=pick)
    assert (every.channels, some.channels) == (3, 2)
    for sample, part in zip(everything(every), everything(some), strict=True):
        image = every.read_image(sample)
        np.testing.assert_array_equal(some.read_image(part), image[..., [2, 0]])


# Orientation and spacing


def test_every_orientation_on_disk_gives_the_same_arrays(one):
    image, labels = scan(0)
    affine = np.diag([1.0, 1.2, 3.0, 1])
    affine[:3, 3] = -20, 7, 90
    expected = one(image[..., 0], labels, affine)[:2]
    assert expected[0].shape == (6, 12, 10)
    orientations = [
        "".join(code)
        for axes in itertools.permutations(("LR", "PA", "IS"))
        for code in itertools.product(*axes)
    ]
    assert len(orientations) == 48
    for number, like in enumerate(orientations):
        other = orientations[(7 * number + 5) % 48]  # a mask need not be stored as its image is
        *found, grid = one(image[..., 0], labels, affine, like=like, label_like=other)
        for a, b in zip(found, expected, strict=True):
            np.testing.assert_array_equal(a, b, err_msg=f"{like} {other}")
        np.testing.assert_allclose(grid.spacing[list(grid.order("auto"))], (3.0, 1.2, 1.0))


@pytest.mark.parametrize(
    ("spacing", "axis", "place"),
    [  # of the voxel (x, y, z) of 4 x 5 x 6 along R, A, S
        ((1, 1, 1), "auto", lambda x, y, z: (z, 4 - y, x)),
        ((1, 1, 3), "auto", lambda x, y, z: (z, 4 - y, x)),
        ((1, 3, 1), "auto", lambda x, y, z: (y, 5 - z, x)),
        ((3, 1, 1), "auto", lambda x, y, z: (x, 5 - z, y)),
        ((3, 3, 1), "auto", lambda x, y, z: (y, 5 - z, x)),
        ((1.0004, 1, 1), "auto", lambda x, y, z: (z, 4 - y, x)),
        ((3, 1, 1), "axial", lambda x, y, z: (z, 4 - y, x)),
        ((1, 1, 3), "sagittal", lambda x, y, z: (x, 5 - z, y)),
        ((1, 1, 3), "coronal", lambda x, y, z: (y, 5 - z, x)),
    ],
)
def test_where_a_voxel_goes(one, spacing, axis, place):
    """The slices lie across the largest spacing; the face looks up, and the head is on top."""
    image = np.arange(4 * 5 * 6, dtype=np.float32).reshape(4, 5, 6)
    found, labels, _ = one(image, image.astype(np.int16), np.diag([*spacing, 1]), axis=axis)
    for x, y, z in [(0, 0, 0), (1, 2, 3), (3, 4, 5)]:
        assert found[place(x, y, z)] == labels[place(x, y, z)] == image[x, y, z]


def test_an_oblique_volume_is_turned_without_interpolation(one):
    """Rotated by 20 degrees about the third axis: the values stay, the spacing too."""
    turn = np.deg2rad(20)
    affine = np.diag([2.0, 2.0, 5.0, 1])
    rotation = [[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]
    affine[:2, :2] = np.array(rotation) @ affine[:2, :2]
    image, labels = scan(3)
    found, _, grid = one(image[..., 0], labels, affine)
    np.testing.assert_array_equal(found, image[..., 0].transpose(2, 1, 0)[:, ::-1])
    np.testing.assert_allclose(grid.spacing, (2, 2, 5), rtol=1e-6)


@pytest.mark.parametrize(("unit", "factor"), [("mm", 1), ("micron", 1e-3), ("meter", 1e3)])
def test_the_spacing_is_in_millimetres_whatever_the_header_counts_in(tmp_path, unit, factor):
    image = nibabel.Nifti1Image(np.zeros((2, 3, 4), np.float32), np.diag([1, 2, 4, 1]))
    image.header.set_xyzt_units(unit)
    nibabel.save(image, tmp_path / "a.nii")
    spacing = volumes.read_grid(tmp_path / "a.nii").spacing
    np.testing.assert_allclose(spacing, np.array([1, 2, 4]) * factor)


def test_the_spacing_of_a_sample_is_that_of_the_arrays_axes(root):
    source, cut = whole(root), slices(root)
    assert source.spacing(source.samples("train")[0]) == (3.0, 1.0, 1.0)
    assert cut.spacing(cut.samples("train")[0]) == (1.0, 1.0)
    assert source.dimensions == 3
    assert cut.dimensions == 2


def test_a_resized_slice_has_larger_or_smaller_pixels(root):
    def spacing_of(source, size, pad):
        return cache.spacing_of(source, Preprocess(size, pad), source.samples("train")[0])

    cut = slices(root, axis="coronal")  # 6 x 10 pixels of 3 x 1 mm
    assert cut.stored_shape(cut.samples("train")[0]) == cut.read_mask(cut.samples("train")[0]).shape
    assert spacing_of(cut, None, "none") == spacing_of(cut, None, "square") == (3.0, 1.0)
    assert spacing_of(cut, 20, "square") == spacing_of(cut, 20, "none") == (1.5, 0.5)
    assert spacing_of(cut, 4, "square") == pytest.approx((18 / 2, 10 / 4))  # 2.4 rows are 2
    assert spacing_of(whole(root), None, "none") == (3.0, 1.0, 1.0)


def test_resampling_keeps_the_box_and_the_labels(root):
    source = whole(root, spacing=[1.5, 2.0, 0.5], window=[0, 1])
    sample = source.samples("train")[0]
    image, mask = source.read_image(sample), source.read_mask(sample)
    assert image.shape == (12, 6, 20, 1)  # 6 x 12 x 10 voxels of 3 x 1 x 1 mm
    assert mask.shape == (12, 6, 20)
    assert source.spacing(sample) == (1.5, 2.0, 0.5)
    stored = whole(root).read_mask(sample)
    # each voxel of 3 mm becomes two, each of 1 mm becomes two columns: both are exact
    fine = whole(root, spacing=[1.5, 1.0, 0.5]).read_mask(sample)
    np.testing.assert_array_equal(fine, stored.repeat(2, axis=0).repeat(2, axis=2))


def test_resampling_keeps_the_edges_of_the_voxels():
    """The centres of eight halves of four voxels lie at -1/4, 1/4, 3/4, ... of them."""
    ramp = np.arange(4, dtype=np.float32).reshape(4, 1, 1)
    found = volumes.resampled(ramp, (8, 1, 1), labels=False).ravel()
    np.testing.assert_allclose(found, [0, 0.25, 0.75, 1.25, 1.75, 2.25, 2.75, 3])
    nearest = volumes.resampled(ramp, (3, 1, 1), labels=True).ravel()
    np.testing.assert_array_equal(nearest, [0, 2, 3])  # of the centres 1/6, 3/2, 17/6


def test_resampling_to_what_it_cannot_divide_says_the_spacing_it_gets(root):
    source = whole(root, spacing=[4.0, 0.7, 1.0])
    sample = source.samples("train")[0]
    shape = source.read_mask(sample).shape
    assert shape == (4, 17, 10)  # 18 mm / 4 = 4.5, 12 / 0.7 = 17.1
    np.testing.assert_allclose(source.spacing(sample), (18 / 4, 12 / 17, 1.0))


# Intensities


def test_zscore_is_of_the_voxels_other_than_zero(root):
    source = whole(root)
    for sample in everything(source):
        raw = source._read_image(sample.files)
        image = source.read_image(sample)
        assert image.dtype == np.float32
        inside = image[raw != 0]
        np.testing.assert_allclose([inside.mean(), inside.std()], [0, 1], atol=1e-4)
        assert (image[raw == 0] == 0).all()


def test_zscore_of_a_channel_does_not_look_at_another():
    volume = np.stack([[[0.0, 1, 3]], [[5, 5, 5]]], axis=-1)[None].astype(np.float32)
    found = volumes.zscore(volume[0])
    np.testing.assert_array_equal(found[..., 0], [[0, -1, 1]])  # mean 2, deviation 1
    np.testing.assert_array_equal(found[..., 1], [[0, 0, 0]])  # of one value


def test_a_window_goes_from_0_to_1():
    found = volumes.windowed(np.float32([-1000, -100, 0, 100, 300, 3000]), -100, 300)
    np.testing.assert_allclose(found, [0, 0, 0.25, 0.5, 1, 1])


def test_a_slice_is_8_bit_between_the_percentiles_of_its_whole_volume(root):
    source = slices(root, percentiles=[10, 90])
    sample = source.samples("train")[0]
    volume = whole(root)._read_image(sample.files)[..., 0]
    low, high = np.percentile(volume[volume != 0], (10, 90))
    expected = np.round(255 * np.clip((volume - low) / (high - low), 0, 1))
    case = [s for s in source.samples("train") if s.files == sample.files]
    found = np.stack([source.read_image(s) for s in case])
    assert found.dtype == np.uint8
    assert found.shape == (6, 12, 10, 3)
    assert np.abs(found - expected[..., None]).max() <= 1  # float32 there, float64 here
    assert (found == 0).mean() > 0.1
    assert (found == 255).mean() > 0.05


def test_a_slice_by_a_window_is_the_same_in_every_volume(root):
    source = slices(root, window=[50, 250])
    for sample in everything(source)[::5]:
        raw = whole(root)._read_image(sample.files)[sample.region[0], ..., 0]
        expected = np.round(255 * np.clip((raw - 50) / 200, 0, 1))
        assert np.abs(source.read_image(sample)[..., 0] - expected).max() <= 1


@pytest.mark.parametrize("channels", [1, 2, 3])
def test_channels_become_red_green_and_blue(channels, tmp_path):
    source = slices(nifti(tmp_path / "data", channels=channels))
    sample = source.samples("train")[2]
    image = source.read_image(sample).astype(int)
    parts = source._eight_bit(sample.files)[2]
    for colour in range(3):
        if channels == 1:
            np.testing.assert_array_equal(image[..., colour], parts[..., 0])
        elif colour < channels:
            np.testing.assert_array_equal(image[..., colour], parts[..., colour])
        else:
            assert (image[..., colour] == 0).all()


# Slices


def test_the_slices_of_a_case_are_its_volume(root):
    cut, volume = slices(root), whole(root)
    for split in cut.splits:
        assert cut.test_images() == len(volume.samples("test"))
        for case in volume.samples(split):
            own = [s for s in cut.samples(split) if s.id.startswith(f"{case.id}-")]
            assert [s.id for s in own] == [f"{case.id}-{k:04d}" for k in range(6)]
            masks = np.stack([cut.read_mask(s) for s in own])
            np.testing.assert_array_equal(masks, volume.read_mask(case))


def test_empty_slices_are_dropped_where_it_is_said(root):
    kept = slices(root)
    full = {
        split: [s.id for s in kept.samples(split) if kept.read_mask(s).any()]
        for split in kept.splits
    }
    every = {split: [s.id for s in kept.samples(split)] for split in kept.splits}
    assert full["train"] != every["train"]
    for choice, expected in {
        "drop": full,
        "drop_training": {**every, "train": full["train"]},
        "keep": every,
    }.items():
        source = slices(root, empty_slices=choice)
        assert {s: [x.id for x in source.samples(s)] for s in source.splits} == expected


def test_a_slice_whose_labels_are_ignored_is_empty(tmp_path):
    root = nifti(tmp_path / "data", labels=("background", "lesion", "ignore"))
    _, labels = scan(0)
    labels[labels == 1] = 0  # what is left is the label 2, ignore
    for path in (root / "labelsTr").glob("[a-z]*"):
        save_nifti(path, labels, np.diag([1, 1, 3, 1]))
    assert slices(root, empty_slices="drop").samples("train") == []


def test_a_volume_is_decoded_once_for_all_its_slices(root, monkeypatch):
    read = []
    real = volumes.read_image
    monkeypatch.setattr(volumes, "read_image", lambda *a: read.append(a[0]) or real(*a))
    source = slices(root)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(source.read_image, source.samples("train")))
    assert len(read) == len(source.cases("train")) == len(set(map(tuple, read)))


def test_what_a_slice_gives_is_the_callers_own(root):
    source = slices(root)
    sample = next(s for s in source.samples("train") if source.read_mask(s).any())
    image, mask = source.read_image(sample), source.read_mask(sample)
    expected = image.copy(), mask.copy()
    image[:], mask[:] = 7, 7
    np.testing.assert_array_equal(source.read_image(sample), expected[0])
    np.testing.assert_array_equal(source.read_mask(sample), expected[1])


# Splits


def patients(source, split):
    return {case.name.split("_")[0] for case in source.cases(split)}


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("kind", [whole, slices])
def test_no_patient_is_in_two_splits(kind, seed, root):
    source = kind(root, split={"val": 0.2, "test": 0.3, "seed": seed}, group=PATIENTS)
    found = [patients(source, split) for split in source.splits]
    assert sum(map(len, found)) == len(set.union(*found)) == 6
    for split in source.splits:  # and what is given out is of the split's own cases
        names = {case.name for case in source.cases(split)}
        assert {sample.id.rsplit("-")[0] for sample in source.samples(split)} == names


def test_without_a_group_a_patient_may_be_in_two_splits(root):
    """Else the test above would show nothing."""
    found = []
    for seed in range(5):
        source = whole(root, split={"val": 0.2, "test": 0.3, "seed": seed})
        parts = [patients(source, split) for split in source.splits]
        found.append(sum(map(len, parts)))
    assert max(found) > 6


@pytest.mark.parametrize("fold", [0, 1])
def test_nnu_nets_own_splits(root, fold, tmp_path):
    folds = [
        {"train": ["ben_0", "anna_0", "anna_1"], "val": ["emil_0"]},
        {"train": ["emil_0", "carl_0"], "val": ["dora_1", "dora_0"]},
    ]
    (root / "splits_final.json").write_text(json.dumps(folds))
    source = whole(root, split_file="splits_final.json", fold=fold)
    assert source.splits == ("train", "val")
    assert source.test_split == "val"
    for split in source.splits:
        assert [s.id for s in source.samples(split)] == sorted(folds[fold][split])
    assert faults_of(source, tmp_path) == []


@pytest.mark.parametrize(
    ("fold", "wrong"),
    [
        ({"train": ["ben_0"], "val": ["otto_0"]}, "names otto_0, which is not in imagesTr"),
        ({"train": ["anna_0"], "val": ["anna_1"]}, "has anna in train and in val"),
        ({"train": ["anna_0"]}, "dataset.fold=0 must be an entry of the list"),
    ],
)
def test_odd_splits_are_refused(root, fold, wrong):
    (root / "splits.json").write_text(json.dumps([fold]))
    with pytest.raises(DataError, match=rf"splits\.json.*{wrong}"):
        whole(root, split_file="splits.json", group=PATIENTS).samples("train")


def test_a_fold_that_is_not_there_is_refused(root):
    (root / "splits.json").write_text("[]")
    with pytest.raises(DataError, match=r"dataset\.fold=3 must be an entry.*it has 0"):
        whole(root, split_file="splits.json", fold=3).samples("train")


def test_the_test_images_may_lie_in_a_folder_of_their_own(root, tmp_path):
    nifti(root, cases=("gina_0", "hans_0"), part="Ts")
    source = whole(root, test="imagesTs")
    assert [s.id for s in source.samples("test")] == ["gina_0", "hans_0"]
    drawn = [s.id for split in ("train", "val") for s in source.samples(split)]
    assert sorted(drawn) == sorted(NIFTI_CASES)
    # these scans are those of anna_0 and anna_1: a leak, and it is seen
    reasons = [reason for _, reason in faults_of(source, tmp_path)]
    assert len(reasons) == 2
    assert all("is the same image as" in reason for reason in reasons)


def test_a_case_of_imagesTr_may_not_be_in_imagesTs(root):
    nifti(root, cases=("anna_0",), part="Ts")
    with pytest.raises(DataError, match="anna_0 is in imagesTr and in imagesTs"):
        whole(root, test="imagesTs").samples("train")


# Faults of dataset.json


@pytest.mark.parametrize(
    ("changed", "wrong"),
    [
        ({"labels": {"background": 0, "a": 1, "b": 3}}, "labels 0, 1, 3: must be consecutive"),
        ({"labels": {"a": 1, "b": 2}}, "labels 1, 2: must be consecutive from 0"),
        ({"labels": {"0": "background", "2": "a"}}, "labels 0, 2: must be consecutive"),
        ({"labels": {"0": "a", "1": "a"}}, "two labels have the same name"),
        ({"labels": {"background": 0, "all": [1, 2], "b": 2}}, "label 'all' is a region"),
        ({"labels": {"background": 0, "a": 1.5}}, "labels must be whole numbers"),
        ({"labels": {"background": 0, "ignore": 1, "a": 2}}, "label ignore is 1, must be the last"),
        ({"labels": {"background": 0}}, "1 labels beside ignore: must be 2"),
        ({"labels": None}, "labels must name the labels"),
        ({"channel_names": None}, "must name the channels"),
        ({"channel_names": {"1": "T2"}}, "must name the channels"),
        ({"file_ending": ".mha"}, r"file_ending '\.mha'; only \.nii\.gz and \.nii are read"),
        ({"training": ["a.nii.gz"]}, "training must be a list of"),
    ],
)
def test_an_odd_dataset_json_is_refused(root, changed, wrong):
    describe(root, **changed)
    with pytest.raises(DataError, match=rf"dataset\.json: .*{wrong}"):
        whole(root)


def test_a_folder_without_dataset_json_shows_the_expected_tree(root):
    (root / "dataset.json").unlink()
    with pytest.raises(DataError, match="no file dataset.json") as error:
        whole(root)
    assert "imagesTr/case_0000.nii.gz" in str(error.value)
    assert "found there: imagesTr, labelsTr" in str(error.value)


@pytest.mark.parametrize("text", ["{", "[]"])
def test_a_dataset_json_that_is_none_is_refused(root, text):
    (root / "dataset.json").write_text(text)
    with pytest.raises(DataError, match=r"dataset\.json: (not JSON|must be an object)"):
        whole(root)


def test_a_folder_that_is_missing_shows_the_expected_tree(root):
    shutil.rmtree(root / "labelsTr")
    with pytest.raises(DataError, match="no folder labelsTr"):
        whole(root).samples("train")


def test_no_image_at_all_shows_the_expected_tree(root):
    for path in (root / "imagesTr").glob("[a-z]*"):
        path.unlink()
    with pytest.raises(DataError, match="no image in imagesTr"):  # the hidden files are none
        whole(root).samples("train")


# Faults of the files, one test for each

IMAGE, LABEL = "imagesTr/ben_0_0000.nii.gz", "labelsTr/ben_0.nii.gz"


def spoil(path, change):
    """Writes a file anew, its array changed by change(array)."""
    image = nibabel.load(path)
    nibabel.save(nibabel.Nifti1Image(change(image.get_fdata(dtype=np.float32)), image.affine), path)


def put(value):
    def change(array):
        array[4, 4, 2:4] = value
        return array

    return change


@pytest.mark.parametrize(
    ("file", "change", "reason"),
    [
        (IMAGE, put(np.nan), "2 voxels not finite (NaN or infinite)"),
        (IMAGE, put(np.inf), "2 voxels not finite (NaN or infinite)"),
        (LABEL, put(np.nan), "2 voxels without a whole number as label"),
        (LABEL, put(0.5), "2 voxels without a whole number as label"),
        (LABEL, put(3), "label 3 (2 voxels) not in dataset.json"),
        (LABEL, put(-1), "label -1 (2 voxels) not in dataset.json"),
        (LABEL, put(300), "label 300 (2 voxels) not in dataset.json"),
        (LABEL, put([7, 9]), "labels 7 (1 voxel), 9 (1 voxel) not in dataset.json"),
        (
            LABEL,
            lambda array: array[:9],
            "9 x 12 x 6 voxels (along R, A, S), not the 10 x 12 x 6 of its image ben_0_0000.nii.gz",
        ),
        (
            LABEL,
            lambda array: array[..., None].repeat(2, 3),
            "2 labels in each voxel, expected one",
        ),
        (IMAGE, lambda array: array[..., None].repeat(3, 3), "3 channels, dataset.json says 1"),
        (IMAGE, lambda array: array[0], "12 x 6 voxels, expected three axes, or four"),
    ],
)
def test_a_fault_in_a_file(root, tmp_path, file, change, reason):
    spoil(root / file, change)
    for source in (whole(root), slices(root)):
        found = faults_of(source, tmp_path)
        assert found[0] == (file, reason)
        assert {path for path, _ in found} == {file}


@pytest.mark.parametrize("file", [IMAGE, LABEL])
@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty file (0 bytes)"),
        (b"<html>Quota exceeded</html>", "not a NIfTI file"),
        (gzip.compress(b"<html>Quota exceeded</html>"), "not a NIfTI file"),
        (None, "missing"),
        (0.5, ("damaged or truncated: ", "not a NIfTI file, or cut off in its header")),
        (0.9, ("damaged or truncated: ", "not a NIfTI file, or cut off in its header")),
    ],
)
def test_a_file_that_is_none(root, tmp_path, file, content, reason):
    path = root / file
    if content is None:
        path.unlink()
        if file == IMAGE:  # a label without an image, then
            describe(root, numTraining=len(NIFTI_CASES) - 1)
            assert the_fault(whole(root), tmp_path) == (LABEL, "no image for it")
            return
    elif isinstance(content, float):
        whole_file = path.read_bytes()
        path.write_bytes(whole_file[: int(content * len(whole_file))])
    else:
        path.write_bytes(content)
    for source in (whole(root), slices(root), slices(root, empty_slices="drop")):
        where, found = the_fault(source, tmp_path)
        assert where == file
        assert found.startswith(reason)


def test_a_channel_that_is_missing_and_one_too_many(tmp_path):
    root = nifti(tmp_path / "data", channels=2)
    (root / "imagesTr" / "ben_0_0001.nii.gz").unlink()
    shutil.copy(root / IMAGE, root / "imagesTr" / "carl_0_0002.nii.gz")
    assert faults_of(whole(root), tmp_path) == [
        ("imagesTr/carl_0_0002.nii.gz", "dataset.json has 2 channels"),
        ("imagesTr/ben_0_0001.nii.gz", "missing"),
    ]


def test_a_4_d_file_with_another_number_of_channels(tmp_path):
    root = decathlon(tmp_path / "data", channels=3)
    describe(root, modality={"0": "FLAIR", "1": "T1"})
    found = faults_of(whole(root), tmp_path)
    assert found[0][1] == "3 channels, dataset.json says 2"
    assert len(found) == len(NIFTI_CASES)


def test_channels_that_lie_elsewhere(tmp_path):
    root = nifti(tmp_path / "data", channels=2)
    second = root / "imagesTr" / "ben_0_0001.nii.gz"
    affine = np.diag([1.0, 1, 3, 1])
    affine[0, 3] = 5
    save_nifti(second, scan(2, 2)[0][..., 1], affine)
    where, reason = the_fault(whole(root), tmp_path)
    assert where == "imagesTr/ben_0_0001.nii.gz"
    assert reason == "lies 5 mm from the place of ben_0_0000.nii.gz"


@pytest.mark.parametrize(
    ("affine", "reason"),
    [
        (np.diag([1.0, 1, 2, 1]), "voxels of 1 x 1 x 2 mm, not the 1 x 1 x 3 mm"),
        ([[1, 0, 0, 20], [0, 1, 0, 0], [0, 0, 3, 0], [0, 0, 0, 1]], "lies 20 mm from the place"),
        ([[-1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 3, 0], [0, 0, 0, 1]], "lies 9 mm from the place"),
    ],
)
def test_a_mask_that_lies_elsewhere_than_its_image(root, tmp_path, affine, reason):
    labels = scan(2)[1]
    save_nifti(root / LABEL, labels, np.array(affine, float))
    where, found = the_fault(whole(root), tmp_path)
    assert where == LABEL
    assert found == (
        f"{reason} of its image ben_0_0000.nii.gz. "
        "If it fits voxel by voxel: dataset.label_affine=ignored"
    )
    ignoring = whole(root, label_affine="ignored")
    assert faults_of(ignoring, tmp_path) == []
    sample = next(s for s in everything(ignoring) if s.id == "ben_0")
    expected = labels.transpose(2, 1, 0)[:, ::-1]
    np.testing.assert_array_equal(ignoring.read_mask(sample), expected)


def test_a_mask_that_lost_its_affine_follows_its_image(root, tmp_path):
    """Both stored as S, P, L; the mask's header says R, A, S."""
    image, labels = scan(2)
    save_nifti(root / IMAGE, image[..., 0], np.diag([1, 1, 3, 1]), like="SPL")
    stored = labels.transpose(2, 1, 0)[:, ::-1, ::-1]
    save_nifti(root / LABEL, np.ascontiguousarray(stored), np.eye(4))
    source = whole(root, label_affine="ignored")
    assert faults_of(source, tmp_path) == []
    sample = next(s for s in everything(source) if s.id == "ben_0")
    np.testing.assert_array_equal(source.read_mask(sample), labels.transpose(2, 1, 0)[:, ::-1])


def test_affines_that_differ_by_rounding_are_no_fault(root, tmp_path):
    affine = np.diag([1.0, 1, 3, 1])
    affine[:3, 3] = 0.01
    save_nifti(root / LABEL, scan(2)[1], affine)
    assert faults_of(whole(root), tmp_path) == []


def test_a_mask_of_another_shape_is_a_fault_whatever_its_affine(root, tmp_path):
    save_nifti(root / LABEL, scan(2)[1][:9], np.eye(4))
    where, reason = the_fault(whole(root, label_affine="ignored"), tmp_path)
    assert (where, reason) == (LABEL, "9 x 12 x 6 voxels, its image 10 x 12 x 6")


def test_an_affine_that_says_nothing(root, tmp_path):
    image = nibabel.load(root / IMAGE)
    broken = nibabel.Nifti1Image(image.get_fdata(dtype=np.float32), np.diag([1, 1, 3, 1]))
    broken.header["srow_x"], broken.header["sform_code"] = (0, 0, 0, 0), 1
    broken.header["qform_code"] = 0
    path = root / IMAGE
    raw = broken.header.binaryblock + bytes(4) + broken.get_fdata().astype("<f4").tobytes("F")
    path.write_bytes(gzip.compress(raw))
    found = the_fault(whole(root), tmp_path)
    assert found == (IMAGE, "its affine does not say where the voxels lie (mend it)")


def test_odd_files_in_the_folders_are_told(root, tmp_path):
    shutil.copy(root / LABEL, root / "labelsTr" / "otto_0.nii.gz")
    shutil.copy(root / IMAGE, root / "imagesTr" / "otto.nii.gz")
    (root / "imagesTr" / "readme.txt").write_text("")
    (root / "imagesTr" / ".DS_Store").write_text("")
    describe(root, numTraining=9)
    assert faults_of(whole(root), tmp_path) == [
        ("imagesTr/otto.nii.gz", "expected names like case_0000.nii.gz"),
        ("imagesTr/readme.txt", "expected names that end in .nii.gz"),
        ("labelsTr/otto_0.nii.gz", "no image for it"),
        ("dataset.json", "numTraining 9, found 8 cases"),
    ]


def test_an_image_that_the_decathlons_list_leaves_out(tmp_path):
    root = decathlon(tmp_path / "data")
    for kind in ("images", "labels"):
        folder = root / f"{kind}Tr"
        shutil.copy(folder / "ben_0.nii.gz", folder / "otto_0.nii.gz")
    assert faults_of(whole(root), tmp_path) == [
        ("imagesTr/otto_0.nii.gz", "dataset.json does not list it"),
        ("labelsTr/otto_0.nii.gz", "no image for it"),
    ]


@pytest.mark.parametrize("kind", [whole, slices])
def test_the_same_scan_in_two_splits_is_a_leak(kind, root, tmp_path):
    source = kind(root)
    first, second = (source.cases(split)[0].images[0] for split in ("train", "test"))
    shutil.copy(first, second)
    found = faults_of(kind(root), tmp_path)
    assert found
    assert all("is the same image as" in reason for _, reason in found)


# Mistakes in the configuration


@pytest.mark.parametrize(
    ("kind", "changed", "wrong"),
    [
        (whole, {"test": "imagesTr"}, "dataset.test=imagesTr: must be one of drawn, imagesTs"),
        (whole, {"axis": "z"}, "dataset.axis=z: must be one of auto, sagittal, coronal, axial"),
        (whole, {"label_affine": False}, "dataset.label_affine=False: must be one of"),
        (whole, {"window": [300, -100]}, r"dataset.window=\[300, -100\]: must be \[low, high\]"),
        (whole, {"spacing": [1, 1]}, r"dataset.spacing=\[1, 1\]: must be three lengths"),
        (whole, {"spacing": [1, 1, 0]}, "must be three lengths"),
        (whole, {"modalities": ["T9"]}, r"dataset.modalities=\['T9'\]: .*has 0 \(M0\)"),
        (whole, {"modalities": []}, r"dataset.modalities=\[\]"),
        (whole, {"group": "("}, "dataset.group=.*no regular expression"),
        (whole, {"group": "abc"}, "needs one group in brackets"),
        (slices, {"empty_slices": "yes"}, "must be one of keep, drop, drop_training"),
        (slices, {"percentiles": [1, 101]}, "must lie in 0 .. 100"),
        (slices, {"percentiles": [99, 1]}, "low below high"),
    ],
)
def test_a_mistake_in_the_configuration_is_named(root, kind, changed, wrong):
    with pytest.raises(ConfigError, match=wrong):
        kind(root, **changed)


def test_a_share_that_is_missing_is_named(root):
    with pytest.raises(ConfigError, match="val and test must be shares"):
        whole(root, split={"val": 0.1, "seed": 0}).samples("train")


def test_a_group_that_is_not_in_a_name_is_named(root):
    with pytest.raises(DataError, match=r"dataset\.group=\(xyz\): finds nothing in "):
        whole(root, group="(xyz)").samples("train")


def test_four_channels_are_too_many_for_a_slice(tmp_path):
    root = nifti(tmp_path / "data", cases=("a_0", "b_0", "c_0"), channels=4)
    with pytest.raises(ConfigError, match="at most three channels; choose some of M0, M1, M2, M3"):
        slices(root)
    assert slices(root, modalities=["M1", "M3"]).channels == 3


def test_without_nibabel_the_extra_is_named(root, monkeypatch):
    monkeypatch.setitem(sys.modules, "nibabel", None)
    with pytest.raises(ConfigError, match=r"pip install -e '\.\[volumes\]'"):
        whole(root)


# Prepared volumes


def opened(source, folder, split="train", preprocess=WHOLE):
    return cache.open_split(source, preprocess, folder, check(source, folder, quiet), split)


def prepare(source, folder, progress=quiet, workers=None):
    found = check(source, folder, quiet)
    cache.prepare(source, WHOLE, folder, found, progress, workers)
    return found


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "cache"


@pytest.mark.parametrize("changed", [{}, {"window": [80, 140]}, {"spacing": [1.5, 2, 2]}])
def test_prepared_volumes_are_those_of_the_files(root, folder, changed):
    source = whole(root, **changed)
    before = {split: opened(source, folder, split) for split in source.splits}
    prepare(source, folder)
    for split, files in before.items():
        ready = opened(source, folder, split)
        assert isinstance(files, FileVolumes)
        assert isinstance(ready, PreparedVolumes)
        assert ready.ids == files.ids == [s.id for s in source.samples(split)]
        for pair, other in zip(ready, files, strict=True):
            for a, b in zip(pair, other, strict=True):
                assert a.dtype == b.dtype
                np.testing.assert_array_equal(a, b)


def test_volumes_may_differ_in_size(root, folder):
    image, labels = scan(2)
    save_nifti(root / IMAGE, image[:8, ..., 0], np.diag([1, 1, 3, 1]))
    save_nifti(root / LABEL, labels[:8], np.diag([1, 1, 3, 1]))
    source = whole(root)
    assert prepare(source, folder).shapes == ((6, 12, 8), (6, 12, 10))
    shapes = {v[1].shape for split in source.splits for v in opened(source, folder, split)}
    assert shapes == {(6, 12, 8), (6, 12, 10)}


def test_a_patch_is_read_without_the_rest(root, folder):
    source = whole(root)
    prepare(source, folder)
    image, mask = opened(source, folder)[0]
    assert isinstance(image, np.memmap)
    assert isinstance(mask, np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        image[0, 0, 0] = 0


def test_a_volume_outside_is_an_index_error(root, folder):
    source = whole(root)
    files = opened(source, folder)
    prepare(source, folder)
    ready = opened(source, folder)
    for split in (files, ready):
        np.testing.assert_array_equal(split[-1][1], split[len(split) - 1][1])
        with pytest.raises(IndexError):
            split[len(split)]


def first(split):
    return [array.tobytes() for array in split[0]]


def test_volumes_and_slices_travel_to_another_process(root, folder):
    source = whole(root, group=PATIENTS)
    splits = [opened(source, folder), opened(slices(root, group=PATIENTS), folder)]
    prepare(source, folder)
    splits.append(opened(source, folder))
    expected = [first(split) for split in splits]
    packed = [pickle.dumps(split) for split in splits]  # what cannot be packed hangs the pool
    assert len(packed[-1]) < 1000
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        assert [pool.submit(first, split).result() for split in splits] == expected


def test_changed_files_and_options_make_the_arrays_stale(root, folder):
    prepare(whole(root), folder)
    assert isinstance(opened(whole(root), folder), PreparedVolumes)
    assert isinstance(opened(whole(root, window=[0, 200]), folder), FileVolumes)
    save_nifti(root / LABEL, scan(5)[1] * 0, np.diag([1, 1, 3, 1]))
    assert isinstance(opened(whole(root), folder), FileVolumes)
    prepare(whole(root), folder)
    assert isinstance(opened(whole(root), folder), PreparedVolumes)


@pytest.mark.parametrize("library", ["nibabel", "scipy"])
def test_another_library_version_makes_the_arrays_stale(root, folder, monkeypatch, library):
    prepare(whole(root), folder)
    real = volume_arrays.version
    monkeypatch.setattr(volume_arrays, "version", lambda n: "0" if n == library else real(n))
    assert isinstance(opened(whole(root), folder), FileVolumes)


@pytest.mark.parametrize("damage", ["no meta", "no volumes", "no array", "half an array"])
def test_damaged_arrays_are_never_read(root, folder, damage):
    source = whole(root)
    prepare(source, folder)
    (arrays,) = (folder / "prepared").glob("*/arrays")
    meta, array = arrays / "meta.json", arrays / "val-00000-mask.npy"
    if damage == "no meta":
        meta.unlink()
    elif damage == "no volumes":
        plain = json.loads(meta.read_text())
        meta.write_text(json.dumps({**plain, "volumes": {"train": plain["volumes"]["train"]}}))
    elif damage == "no array":
        array.unlink()
    else:
        array.write_bytes(array.read_bytes()[:300])
    assert isinstance(opened(source, folder), FileVolumes)
    prepare(source, folder)
    assert isinstance(opened(source, folder), PreparedVolumes)


def test_a_killed_writer_leaves_nothing(root, folder):
    def killing(items, total, what):  # noqa: ARG001
        for number, item in enumerate(items):
            if what.startswith("prepare") and number == 1:
                raise KeyboardInterrupt
            yield item

    with pytest.raises(KeyboardInterrupt):
        prepare(whole(root), folder, killing, workers=1)
    assert [path.name for path in (folder / "prepared").glob("*/*")] == ["lock"]


def test_the_arrays_take_no_more_than_was_foreseen(root, folder, monkeypatch):
    source = whole(root)
    found = prepare(source, folder)
    needed = cache.bytes_needed(source, WHOLE, found)
    files = list((folder / "prepared").glob("*/arrays/*.npy"))
    taken = sum(path.stat().st_size for path in files)
    assert taken - 128 * len(files) == 8 * 6 * 12 * 10 * 5  # float32 and a byte
    assert needed == 8 * 6 * 12 * 10 * 5 + 8 * volume_arrays.BYTES_BESIDE > taken
    shutil.rmtree(folder / "prepared")
    usage = shutil.disk_usage(folder)
    monkeypatch.setattr(cache.shutil, "disk_usage", lambda _: usage._replace(free=needed - 1))
    with pytest.raises(DataError, match="the prepared arrays take"):
        prepare(source, folder)


@pytest.mark.parametrize("preprocess", [Preprocess(64, "none"), Preprocess(None, "square")])
def test_volumes_are_not_resized(root, folder, preprocess):
    source = whole(root)
    found = check(source, folder, quiet)
    for function in (
        lambda: cache.open_split(source, preprocess, folder, found, "train"),
        lambda: cache.prepare(source, preprocess, folder, found, quiet),
    ):
        with pytest.raises(ConfigError, match=r"Set dataset\.size=null and dataset\.pad=none"):
            function()


def test_few_volumes_are_read_at_a_time(root, monkeypatch):
    """Of 64 at once, each a gigabyte, a machine with 64 cores would have no room."""
    monkeypatch.setattr(check_module, "usable_cores", lambda: 64)
    assert check_module.default_workers(whole(root)) == 4
    assert check_module.default_workers(slices(root)) == 64
    monkeypatch.setattr(check_module, "usable_cores", lambda: 2)
    assert check_module.default_workers(whole(root)) == 2


def test_messages_say_where_volumes_are_read_from(root, folder):
    source = whole(root)
    slow = opened(source, folder).message()
    assert slow.startswith("train: reads the files, ")
    assert f"`python scripts/data.py prepare dataset=nifti dataset.root={root}`" in slow
    prepare(source, folder)
    assert opened(source, folder).message().startswith("train: reads the prepared arrays in ")


def test_slices_are_prepared_as_other_images_are(root, folder):
    source, preprocess = slices(root), Preprocess(16, "square")
    found = check(source, folder, quiet)
    cache.prepare(source, preprocess, folder, found, quiet)
    ready = cache.open_split(source, preprocess, folder, found, "train")
    assert ready.message().startswith("train: reads the prepared arrays in ")
    files = cache.FileSplit(source, preprocess, "train")
    for pair, other in zip(ready, files, strict=True):
        assert pair[0].shape == (16, 16, 3)
        for a, b in zip(pair, other, strict=True):
            np.testing.assert_array_equal(a, b)


def test_a_check_tells_shapes_that_differ_in_voxels(root, folder):
    class Careless(NiftiVolumes):
        def read_mask(self, sample):
            return super().read_mask(sample)[:-1]

    source = Careless(**{"root": str(root), "spacing": None, **SHARED})
    reason = check(source, folder, quiet).faults[0].reason
    assert reason == "mask 5 x 12 x 10 voxels, image 6 x 12 x 10 (D x H x W)"


# A real brain


@pytest.fixture(scope="module")
def mni(tmp_path_factory):
    """Three blocks of axial slices of the MNI template that nilearn ships, as three cases."""
    data = Path(nilearn.__file__).parent / "datasets" / "data"
    t1, grey, white = (
        nibabel.load(data / f"mni_icbm152_{kind}_tal_nlin_sym_09a_converted.nii.gz")
        for kind in ("t1", "gm", "wm")
    )
    shares = np.stack([np.asanyarray(image.dataobj) for image in (grey, white)])
    labels = np.where(shares.max(axis=0) >= 128, 1 + shares.argmax(axis=0), 0).astype(np.uint8)
    root = tmp_path_factory.mktemp("mni")
    for case, (start, end) in {"low": (14, 93), "mid": (103, 118), "top": (128, 147)}.items():
        affine = t1.affine.copy()
        affine[2, 3] += start
        block = np.asanyarray(t1.dataobj)[:, :, start:end]
        save_nifti(root / "imagesTr" / f"{case}_0000.nii", block, affine)
        save_nifti(root / "labelsTr" / f"{case}.nii", labels[:, :, start:end], affine)
    about = {
        "channel_names": {"0": "T1"},
        "labels": {"background": 0, "grey": 1, "white": 2},
        "numTraining": 3,
        "file_ending": ".nii",
    }
    (root / "dataset.json").write_text(json.dumps(about))
    fold = [{"train": ["low"], "val": ["mid", "top"]}]
    (root / "blocks.json").write_text(json.dumps(fold))
    return root


def test_the_mni_template_is_read_as_it_lies_in_the_head(mni, tmp_path):
    source = whole(mni, split_file="blocks.json")
    found = check(source, tmp_path, quiet)
    assert found.faults == ()
    assert found.shapes == ((15, 233, 197), (19, 233, 197), (79, 233, 197))
    low = source.samples("train")[0]
    assert source.spacing(low) == (1.0, 1.0, 1.0)
    image, mask = source.read_image(low)[..., 0], source.read_mask(low)
    # the template is symmetric from left to right, and in no other direction
    np.testing.assert_array_equal(mask, mask[..., ::-1])
    np.testing.assert_array_equal(image, image[..., ::-1])
    assert (mask != mask[:, ::-1]).mean() > 0.05
    assert abs(image[image != 0].mean()) < 1e-3
    # white matter is brighter than grey in T1, and grey than what is neither
    means = [image[(mask == k) & (image != 0)].mean() for k in range(3)]
    assert means == sorted(means)
    # the cerebellum lies low and at the back, below in the picture: in the lowest slices, the
    # centre of the tissue is behind the middle of the head
    rows = np.flatnonzero((mask[:10] > 0).any(axis=(0, 2)))
    assert rows.mean() > 233 / 2


def test_the_slices_of_the_mni_template_are_grey_pictures(mni, tmp_path):
    source = slices(mni, split_file="blocks.json")
    found = check(source, tmp_path, quiet)
    assert found.faults == ()
    assert found.counts == {"train": 79, "val": 15 + 19}
    image = source.read_image(source.samples("train")[40])
    assert image.shape == (233, 197, 3)
    assert (image[..., 0] == image[..., 2]).all()
    assert image.max() > 250
    assert (image == 0).mean() > 0.3


def test_a_missing_file_is_told_by_the_header_alone(tmp_path):
    with pytest.raises(FileFaults, match=r"nothing\.nii: missing"):
        volumes.read_grid(tmp_path / "nothing.nii")
