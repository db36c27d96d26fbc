"""The check: every kind of fault, all at once; and a verdict that is kept as long as it is true."""

import os
import shutil
import sys
import time

import numpy as np
import pytest
from PIL import Image, ImageFile
from trees import (
    CELEBA_SPLIT,
    celeba_source,
    city_paths,
    city_source,
    noise,
    part_path,
    quiet,
    save,
)

from seglab.data import check as check_module
from seglab.data.check import Verdict, check, require_clean, verdict
from seglab.data.nuclei_strips import NucleiStrips
from seglab.data.reading import FileFaults, read_rgb
from seglab.data.shapes import Shapes
from seglab.data.source import IGNORE, Fault, Sample, Source
from seglab.errors import DataError

KEY = "frankfurt_000001_002759"
IMAGE = f"leftImg8bit/val/frankfurt/{KEY}_leftImg8bit.png"
MASK = f"gtFine/val/frankfurt/{KEY}_gtFine_labelIds.png"


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "cache"


def faults_of(source, cache):
    return [(fault.path, fault.reason) for fault in check(source, cache, quiet).faults]


def the_fault(source, cache):
    """The only fault of a data set: (path, reason)."""
    faults = faults_of(source, cache)
    assert len(faults) == 1, faults
    return faults[0]


# One test for each kind of fault


def test_a_whole_data_set_has_no_fault(celeba_root, city_root, cache):
    assert faults_of(celeba_source(celeba_root), cache) == []
    assert faults_of(city_source(city_root), cache) == []
    assert faults_of(NucleiStrips(128, 64), cache) == []


def test_missing_mask(city_root, cache):
    (city_root / MASK).unlink()
    assert the_fault(city_source(city_root), cache) == (MASK, "missing")


def test_missing_image_of_a_mask(city_root, cache):
    (city_root / IMAGE).unlink()
    assert faults_of(city_source(city_root), cache) == [
        ("split val", "3 images, expected 4"),
        (MASK, "no image for it"),
    ]


def test_missing_image_of_parts(celeba_root, cache):
    (celeba_root / "CelebA-HQ-img" / "29.jpg").unlink()
    assert faults_of(celeba_source(celeba_root), cache) == [
        ("split test", "3 images, expected 4"),
        ("CelebA-HQ-img", "29 images, expected 30"),
        (
            "CelebAMask-HQ-mask-anno/0/00029_hat.png",
            "no image CelebA-HQ-img/29.jpg for it (1 part)",
        ),
    ]


@pytest.mark.parametrize("share", [0.3, 0.6, 0.95])
def test_truncated_jpeg(celeba_root, cache, share):
    """OpenCV would read it, and fill what is missing with grey."""
    path = celeba_root / "CelebA-HQ-img" / "7.jpg"
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    where, reason = the_fault(celeba_source(celeba_root), cache)
    assert where == "CelebA-HQ-img/7.jpg"
    assert "damaged or truncated" in reason


def test_a_truncated_jpeg_is_caught_whatever_other_libraries_set(celeba_root, monkeypatch):
    path = celeba_root / "CelebA-HQ-img" / "7.jpg"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) * 9 // 10])
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    with pytest.raises(FileFaults, match=r"7\.jpg: damaged or truncated"):
        read_rgb(path)


@pytest.mark.parametrize("name", [IMAGE, MASK])
def test_truncated_png(city_root, cache, name):
    path = city_root / name
    path.write_bytes(path.read_bytes()[:-100])
    where, reason = the_fault(city_source(city_root), cache)
    assert where == name
    assert "damaged or truncated" in reason


@pytest.mark.parametrize("name", [IMAGE, MASK])
def test_empty_file(city_root, cache, name):
    (city_root / name).write_bytes(b"")
    assert the_fault(city_source(city_root), cache) == (name, "empty file (0 bytes)")


@pytest.mark.parametrize("name", [IMAGE, MASK])
def test_not_an_image(city_root, cache, name):
    (city_root / name).write_text("<html>Quota exceeded</html>")
    assert the_fault(city_source(city_root), cache) == (name, "not an image")


def test_a_folder_in_the_place_of_a_file(city_root, cache):
    (city_root / MASK).unlink()
    (city_root / MASK).mkdir()
    where, reason = the_fault(city_source(city_root), cache)
    assert where == MASK
    assert reason.startswith("cannot be opened")


def test_image_and_mask_of_different_size(city_root, cache):
    save(city_root / MASK, noise(0, 32, 16) % 34)
    assert the_fault(city_source(city_root), cache) == (
        MASK,
        "mask 32 x 16 pixels, image 16 x 32 (rows x columns)",
    )


def test_parts_of_other_proportions_than_the_image(celeba_root, cache):
    path = part_path(celeba_root, 1, "hat")
    save(path, noise(0, 16, 12))
    assert the_fault(celeba_source(celeba_root), cache) == (
        "CelebAMask-HQ-mask-anno/0/00001_hat.png",
        "16 x 12 pixels, image 32 x 32: not the same proportions",
    )


def test_parts_of_different_size(celeba_root, cache):
    save(part_path(celeba_root, 0, "hair"), noise(0, 8, 8))
    assert the_fault(celeba_source(celeba_root), cache) == (
        "CelebAMask-HQ-mask-anno/0/00000_hair.png",
        "8 x 8 pixels, others 16 x 16",
    )


def test_label_that_no_class_has(city_root, cache):
    labels = np.full((16, 32), 7, np.uint8)
    labels[0, :5], labels[1, 0] = 77, 200
    save(city_root / MASK, labels)
    assert the_fault(city_source(city_root), cache) == (
        MASK,
        "labels 77 (5 pixels), 200 (1 pixel) outside the label ids 0 .. 33 and 255 (-1)",
    )


def test_label_that_a_source_lets_through(cache):
    class Careless(Shapes):
        def read_mask(self, sample):
            return super().read_mask(sample) * 3

    made = Careless(2, {"train": 1, "val": 1, "test": 1}, 8, 8, 0.5, 1, 0, 0, 0, 0, 0)
    where, reason = faults_of(made, cache)[0]
    assert where == "train-00000"
    assert reason.startswith("label 3 (")
    assert reason.endswith("outside 0 .. 1 and 255")


def test_train_ids_where_label_ids_are_expected_to_be_absent(city_root, cache):
    """labelTrainIds that hold label ids: 19 .. 33 are no train ids."""
    source = city_source(city_root)
    for split in source.splits:
        for sample in source.samples(split):
            name = sample.files[1].name.replace("labelIds", "labelTrainIds")
            shutil.copy(sample.files[1], sample.files[1].with_name(name))
    faults = faults_of(city_source(city_root, "labelTrainIds"), cache)
    assert len(faults) == 8
    assert all("outside the train ids 0 .. 18 and 255" in reason for _, reason in faults)


def test_16_bit_mask(city_root, cache):
    save(city_root / MASK, noise(0, 16, 32).astype(np.uint16))
    where, reason = the_fault(city_source(city_root), cache)
    assert where == MASK
    assert reason.startswith("16 bit mask (mode I;16)")


def test_palette_mask(city_root, cache):
    """OpenCV would turn label 3 into the brightness of its colour."""
    palette = Image.fromarray(noise(0, 16, 32) % 34).convert("P")
    palette.save(city_root / MASK)
    where, reason = the_fault(city_source(city_root), cache)
    assert where == MASK
    assert reason.startswith("palette mask (mode P), expected 8 bit grey")


def test_colour_mask(city_root, cache):
    save(city_root / MASK, noise(0, 16, 32, 3))
    assert the_fault(city_source(city_root), cache)[1].startswith("colour mask (mode RGB)")


@pytest.mark.parametrize(("mode", "kind"), [("P", "palette"), ("I;16", "16 bit")])
def test_part_that_would_be_misread(celeba_root, cache, mode, kind):
    path = part_path(celeba_root, 1, "hat")
    grey = noise(0, 16, 16)
    image = Image.fromarray(grey.astype(np.uint16)) if mode == "I;16" else Image.fromarray(grey)
    image.convert(mode).save(path)
    where, reason = the_fault(celeba_source(celeba_root), cache)
    assert where == "CelebAMask-HQ-mask-anno/0/00001_hat.png"
    assert reason.startswith(f"{kind} mask (mode {mode})")


@pytest.mark.parametrize("mode", ["RGBA", "P", "I;16"])
def test_image_of_another_depth(city_root, cache, mode):
    grey = noise(0, 16, 32)
    image = Image.fromarray(grey.astype(np.uint16)) if mode == "I;16" else Image.fromarray(grey)
    image.convert(mode).save(city_root / IMAGE)
    assert the_fault(city_source(city_root), cache) == (
        IMAGE,
        f"mode {mode}, expected 8 bit RGB or grey",
    )


@pytest.mark.parametrize("orientation", [2, 6, 8])
def test_exif_rotation(celeba_root, cache, orientation):
    path = celeba_root / "CelebA-HQ-img" / "3.jpg"
    exif = Image.Exif()
    exif[274] = orientation
    save(path, noise(0, 32, 32, 3), exif=exif)
    where, reason = the_fault(celeba_source(celeba_root), cache)
    assert where == "CelebA-HQ-img/3.jpg"
    assert reason.startswith(f"EXIF orientation {orientation}")


def test_exif_upright_is_no_fault(celeba_root, cache):
    exif = Image.Exif()
    exif[274] = 1
    save(celeba_root / "CelebA-HQ-img" / "3.jpg", noise(0, 32, 32, 3), exif=exif)
    assert faults_of(celeba_source(celeba_root), cache) == []


def test_image_without_any_part(celeba_root, cache):
    part_path(celeba_root, 1, "hat").unlink()
    assert the_fault(celeba_source(celeba_root), cache) == (
        "CelebA-HQ-img/1.jpg",
        "no part file in CelebAMask-HQ-mask-anno",
    )


def test_part_of_another_name_and_in_another_folder(celeba_root, cache):
    save(part_path(celeba_root, 1, "beard"), noise(0, 16, 16))
    wrong = celeba_root / "CelebAMask-HQ-mask-anno" / "3" / "00001_skin.png"
    save(wrong, noise(0, 16, 16))
    (where_name, name), (where_folder, folder) = faults_of(celeba_source(celeba_root), cache)
    assert where_name == "CelebAMask-HQ-mask-anno/0/00001_beard.png"
    assert name.startswith("expected names like 00123_skin.png")
    assert where_folder == "CelebAMask-HQ-mask-anno/3/00001_skin.png"
    assert folder == "expected in folder 0 (2000 images a folder)"


def test_image_of_another_name(celeba_root, city_root, cache):
    save(celeba_root / "CelebA-HQ-img" / "00003.jpg", noise(0, 32, 32, 3))
    assert the_fault(celeba_source(celeba_root), cache) == (
        "CelebA-HQ-img/00003.jpg",
        "expected names like 123.jpg",
    )
    save(
        city_root / "leftImg8bit" / "train" / "bremen" / "bremen_1_leftImg8bit.png", noise(0, 4, 4)
    )
    assert the_fault(city_source(city_root), cache) == (
        "leftImg8bit/train/bremen/bremen_1_leftImg8bit.png",
        "expected names like bremen_000000_000019_leftImg8bit.png",
    )


def test_wrong_counts(celeba_root, cache):
    split = {**CELEBA_SPLIT, "counts": [20, 6, 9]}
    assert faults_of(celeba_source(celeba_root, split, 33), cache) == [
        ("split test", "4 images, expected 9"),
        ("CelebA-HQ-img", "30 images, expected 33"),
    ]


def test_counts_are_not_checked_where_none_is_expected(city_root, cache):
    for path in city_paths(city_root, "val", KEY):
        path.unlink()
    source = city_source(city_root)
    source.expected_counts = None
    assert faults_of(source, cache) == []


def test_image_in_no_split(celeba_root, cache):
    rows = "\n".join(f"{n} {n} {n:06d}.jpg" for n in range(29))
    (celeba_root / "CelebA-HQ-to-CelebA-mapping.txt").write_text(f"idx orig_idx orig_file\n{rows}")
    partition = "\n".join(f"{n:06d}.jpg {n % 3}" for n in range(29))
    (celeba_root / "list_eval_partition.txt").write_text(partition)
    where, reason = the_fault(celeba_source(celeba_root, "celeba"), cache)
    assert where == "CelebA-HQ-img/29.jpg"
    assert reason.startswith("in no split")


def test_same_image_in_two_splits(celeba_root, cache):
    images = celeba_root / "CelebA-HQ-img"
    shutil.copy(images / "2.jpg", images / "22.jpg")
    shutil.copy(images / "2.jpg", images / "3.jpg")  # in the same split: odd, but no leak
    assert the_fault(celeba_source(celeba_root), cache) == (
        "CelebA-HQ-img/22.jpg",
        "in split val, is the same image as CelebA-HQ-img/2.jpg in split train",
    )


def test_split_that_is_empty(city_root, cache):
    for kind in ("leftImg8bit", "gtFine"):
        shutil.rmtree(city_root / kind / "val" / "frankfurt")
    source = city_source(city_root)
    source.expected_counts = {}
    assert the_fault(source, cache) == ("split val", "no image in it")


def test_all_faults_at_once_in_a_fixed_order(celeba_root, cache):
    """Three bad parts of one image, a bad image elsewhere, and a count: nothing hides another."""
    for part in ("l_ear", "neck_l", "cloth"):
        part_path(celeba_root, 2, part).write_bytes(b"")
    (celeba_root / "CelebA-HQ-img" / "2.jpg").write_bytes(b"no")
    (celeba_root / "CelebA-HQ-img" / "25.jpg").write_bytes(b"")
    source = celeba_source(celeba_root, None, 31)
    expected = [
        ("CelebA-HQ-img", "30 images, expected 31"),
        ("CelebA-HQ-img/2.jpg", "not an image"),
        ("CelebAMask-HQ-mask-anno/0/00002_l_ear.png", "empty file (0 bytes)"),
        ("CelebAMask-HQ-mask-anno/0/00002_neck_l.png", "empty file (0 bytes)"),
        ("CelebAMask-HQ-mask-anno/0/00002_cloth.png", "empty file (0 bytes)"),
        ("CelebA-HQ-img/25.jpg", "empty file (0 bytes)"),
    ]
    assert faults_of(source, cache) == expected
    for workers in (1, 3, 8):
        found = check(source, cache, quiet, workers).faults
        assert [(fault.path, fault.reason) for fault in found] == expected


def test_an_error_of_ours_is_not_taken_for_a_fault(cache):
    class Broken(Shapes):
        def read_mask(self, sample: Sample):
            raise ZeroDivisionError(sample.id)

    made = Broken(2, {"train": 9, "val": 1, "test": 1}, 8, 8, 0.5, 1, 0, 0, 0, 0, 0)
    with pytest.raises(ZeroDivisionError):
        check(made, cache, quiet)


def test_a_data_set_that_is_not_there_is_one_error(city_root, cache):
    shutil.rmtree(city_root / "gtFine")
    with pytest.raises(DataError, match="no folder gtFine"):
        check(city_source(city_root), cache, quiet)


# What else a verdict says


def test_the_histogram_counts_every_pixel_once(city_root, cache):
    source = city_source(city_root)
    found = check(source, cache, quiet)
    assert found.counts == {"train": 4, "val": 4}
    assert found.shapes == ((16, 32),)
    for split in source.splits:
        masks = np.stack([source.read_mask(sample) for sample in source.samples(split)])
        assert found.histogram[split] == tuple((masks == k).sum() for k in range(19))
        assert found.ignored[split] == (masks == IGNORE).sum()


def test_a_binary_histogram_is_background_and_foreground(celeba_root, cache):
    source = celeba_source(celeba_root)
    found = check(source, cache, quiet)
    face = sum(int(source.read_mask(sample).sum()) for sample in source.samples("test"))
    assert found.histogram["test"] == (4 * 32 * 32 - face, face)


def test_a_verdict_survives_the_disk(celeba_root, cache):
    part_path(celeba_root, 1, "hat").unlink()
    source = celeba_source(celeba_root)
    found = check(source, cache, quiet)
    assert Verdict.from_json(found.to_json()) == found
    assert verdict(source, cache, quiet) == found


# The fingerprint


def test_the_fingerprint_does_not_depend_on_the_root(city_root, tmp_path, cache):
    first = check(city_source(city_root), cache, quiet).fingerprint
    moved = tmp_path / "elsewhere" / "cs"
    shutil.copytree(city_root, moved)
    assert check(city_source(moved), cache, quiet).fingerprint == first


@pytest.mark.parametrize("change", ["image", "mask", "split", "version"])
def test_the_fingerprint_depends_on_all_that_training_sees(celeba_root, cache, change):
    first = check(celeba_source(celeba_root), cache, quiet).fingerprint
    split = None
    if change == "image":
        save(celeba_root / "CelebA-HQ-img" / "4.jpg", noise(99, 32, 32, 3))
    elif change == "mask":
        save(part_path(celeba_root, 1, "hat"), noise(99, 16, 16))
    elif change == "split":
        split = {**CELEBA_SPLIT, "counts": [19, 7, 4]}
    source = celeba_source(celeba_root, split)
    if change == "version":
        source.version += 1
    assert check(source, cache, quiet).fingerprint != first


def test_the_fingerprint_of_shapes_is_that_of_their_arguments(cache):
    def fingerprint(version=1, **changed):
        arguments = {"foreground": 0.3, "noise": 5, "seed": 1, **changed}
        images = {"train": 2, "val": 1, "test": 1}
        made = Shapes(3, images, 8, 8, imbalance=1, thin_lines=0, empty=0, ignored=0, **arguments)
        made.version = version
        return check(made, cache, quiet).fingerprint

    first = fingerprint()
    assert fingerprint() == first
    others = [fingerprint(seed=2), fingerprint(noise=6), fingerprint(version=2)]
    assert first not in others
    assert len(set(others)) == 3


# The kept verdict


@pytest.fixture
def reads(monkeypatch):
    """How many samples the checks have read so far."""
    counter = []
    read = check_module._read
    monkeypatch.setattr(
        check_module, "_read", lambda *arguments: counter.append(1) or read(*arguments)
    )
    return counter


def touch(path):
    stat = path.stat()
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))


def lengthen(path):
    path.write_bytes(path.read_bytes() + b"more")


def test_a_verdict_is_reused_while_nothing_changes(celeba_root, cache, reads):
    first = verdict(celeba_source(celeba_root), cache, quiet)
    assert len(reads) == 30
    assert verdict(celeba_source(celeba_root), cache, quiet) == first
    assert len(reads) == 30
    check(celeba_source(celeba_root), cache, quiet)
    assert len(reads) == 60, "check always reads"


CHANGES = {
    "a touched image": lambda root: touch(root / "CelebA-HQ-img" / "0.jpg"),
    "a touched part": lambda root: touch(part_path(root, 29, "hat")),
    "a changed part": lambda root: lengthen(part_path(root, 29, "hat")),
    "an added part": lambda root: save(part_path(root, 1, "skin"), noise(0, 16, 16)),
    "a removed part": lambda root: part_path(root, 0, "nose").unlink(),
    "a stray file": lambda root: (root / "CelebA-HQ-img" / "notes.txt").write_text("hello"),
    "a replaced file": lambda root: os.replace(
        save(root / "new.png", noise(1, 16, 16)), part_path(root, 1, "hat")
    ),
}


@pytest.mark.parametrize("what", CHANGES)
def test_a_verdict_is_not_reused_after(celeba_root, cache, reads, what):
    verdict(celeba_source(celeba_root), cache, quiet)
    CHANGES[what](celeba_root)
    fresh = verdict(celeba_source(celeba_root), cache, quiet)
    assert len(reads) == 60
    assert fresh == check(celeba_source(celeba_root), cache, quiet)


def test_a_size_alone_or_a_time_alone_is_enough(celeba_root, cache, reads):
    verdict(celeba_source(celeba_root), cache, quiet)
    path = part_path(celeba_root, 1, "hat")
    stat = path.stat()
    lengthen(path)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    verdict(celeba_source(celeba_root), cache, quiet)
    assert len(reads) == 60


def test_a_change_while_checking_is_not_overlooked(celeba_root, cache, reads):
    def meddle(items, total, what):  # noqa: ARG001
        for number, item in enumerate(items):
            if number == 20:
                save(part_path(celeba_root, 1, "hat"), noise(3, 16, 16))
            yield item

    check(celeba_source(celeba_root), cache, meddle)
    verdict(celeba_source(celeba_root), cache, quiet)
    assert len(reads) == 60


def test_another_expectation_is_another_verdict(city_root, cache, reads):
    verdict(city_source(city_root), cache, quiet)
    source = city_source(city_root)
    source.expected_counts = {"train": 5, "val": 4}
    assert verdict(source, cache, quiet).faults == (Fault("split train", "4 images, expected 5"),)
    assert len(reads) == 16


def test_other_readers_are_another_verdict(city_root, cache, reads):
    first = verdict(city_source(city_root), cache, quiet)
    source = city_source(city_root)
    source.version += 1
    assert verdict(source, cache, quiet).fingerprint != first.fingerprint
    assert len(reads) == 16


def test_a_verdict_that_was_cut_short_is_not_believed(city_root, cache, reads):
    first = verdict(city_source(city_root), cache, quiet)
    (path,) = (cache / "verdicts").iterdir()
    path.write_text(path.read_text()[:-50])
    assert verdict(city_source(city_root), cache, quiet) == first
    assert len(reads) == 16


def test_two_splits_of_one_folder_keep_their_own_verdicts(celeba_root, cache, reads):
    other = {**CELEBA_SPLIT, "counts": [10, 10, 10]}
    for split in (None, other, None, other):
        verdict(celeba_source(celeba_root, split), cache, quiet)
    assert len(reads) == 60


def test_a_cache_that_cannot_be_written_is_a_readable_error(city_root, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DataError, match="cannot write the verdict"):
        check(city_source(city_root), tmp_path / "file", quiet)


# What training asks


def test_training_refuses_a_data_set_with_faults(celeba_root, cache):
    for number in range(15):
        (celeba_root / "CelebA-HQ-img" / f"{number}.jpg").write_bytes(b"")
    with pytest.raises(DataError) as error:
        require_clean(celeba_source(celeba_root), cache, quiet)
    lines = str(error.value).splitlines()
    assert lines[0] == f"dataset celebamask_hq: 15 faults in {celeba_root}"
    assert lines[1] == "  CelebA-HQ-img/0.jpg: empty file (0 bytes)"
    assert len([line for line in lines if "empty file" in line]) == 10
    assert lines[11] == "  and 5 more"
    command = f"python scripts/data.py check dataset=celebamask_hq dataset.root={celeba_root}"
    assert lines[12].endswith(command)


def test_training_accepts_a_clean_one(celeba_root, cache, reads):
    found = require_clean(celeba_source(celeba_root), cache, quiet)
    assert found.faults == ()
    require_clean(celeba_source(celeba_root), cache, quiet)
    assert len(reads) == 30


def test_a_source_of_ones_own_needs_three_readers(tmp_path, reads, tmp_path_factory):
    """A DataError in its own words is a fault too."""
    cache = tmp_path_factory.mktemp("cache")

    class Mine(Source):
        name, classes, colours, splits = "mine", ("thing",), ((1, 2, 3),), ("train",)
        root = tmp_path

        def options(self):
            return {"window": (1, 2)}

        def samples(self, split):
            return [Sample(f"{split}-1", (tmp_path / "a.png",))]

        def read_image(self, sample):
            return read_rgb(sample.files[0])

        def read_mask(self, sample):
            raise DataError(f"{sample.id} is upside down")

    save(tmp_path / "a.png", noise(0, 4, 4, 3))
    assert the_fault(Mine(), cache) == ("a.png", "train-1 is upside down")
    assert verdict(Mine(), cache, quiet).counts == {"train": 1}
    assert len(reads) == 1, "the verdict was kept"


def test_progress_sees_every_sample(city_root, cache):
    seen = []

    def progress(items, total, what):
        seen.append((total, what))
        yield from items

    check(city_source(city_root), cache, progress)
    assert seen == [(8, "check cityscapes")]


def test_the_bar_writes_to_stderr_alone_and_only_for_what_takes_long(capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)

    def slow():
        for number in range(3):
            time.sleep(0.4)
            yield number

    assert list(check_module.bar(slow(), 3, "check x")) == [0, 1, 2]
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "check x" in printed.err
    list(check_module.bar(range(3), 3, "check x"))
    assert capsys.readouterr().err == ""
