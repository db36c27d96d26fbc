"""Prepared arrays: the same pixels as the files, whole or absent, never stale."""

import json
import pickle
import shutil
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import numpy as np
import pytest
from trees import CELEBA_SPLIT, celeba_source, city_source, noise, part_path, quiet, save

from seglab.data import cache as cache_module
from seglab.data.cache import FileSplit, PreparedSplit, one_shape, open_split, prepare
from seglab.data.check import Verdict, verdict
from seglab.data.nuclei_strips import NucleiStrips
from seglab.data.preprocess import Preprocess
from seglab.data.shapes import Shapes
from seglab.errors import DataError, RunError
from seglab.files import locked

SQUARE = Preprocess(24, "square")


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "cache"


def prepare_all(source, cache, preprocess=SQUARE, progress=quiet, workers=None) -> Verdict:
    found = verdict(source, cache, quiet)
    prepare(source, preprocess, cache, found, progress, workers)
    return found


def opened(source, cache, preprocess=SQUARE, split="train"):
    return open_split(source, preprocess, cache, verdict(source, cache, quiet), split)


def assert_same(one, other):
    assert one.ids == other.ids
    assert len(one) == len(other)
    for pair in zip(one, other, strict=True):
        for a, b in zip(*pair, strict=True):
            assert a.dtype == b.dtype == np.uint8
            np.testing.assert_array_equal(a, b)


def entries(cache):
    """Everything below the folder of the prepared arrays, but the lock."""
    found = (cache / "prepared").rglob("*") if (cache / "prepared").exists() else []
    return sorted(
        path.name for path in found if path.name != "lock" and path.parent.parent != cache
    )


def shapes(**changed):
    arguments = {"height": 16, "width": 16, "seed": 0, **changed}
    return Shapes(
        num_classes=3,
        images={"train": 5, "val": 3, "test": 2},
        foreground=0.3,
        imbalance=1,
        thin_lines=0,
        empty=0,
        ignored=0.1,
        noise=9,
        **arguments,
    )


@pytest.mark.parametrize("kind", ["celebamask_hq", "cityscapes", "nuclei", "shapes"])
def test_prepared_arrays_hold_the_same_pixels_as_the_files(kind, celeba_root, city_root, cache):
    source, preprocess = {
        "celebamask_hq": lambda: (celeba_source(celeba_root), SQUARE),
        "cityscapes": lambda: (city_source(city_root), Preprocess(24, "none")),
        "nuclei": lambda: (NucleiStrips(128, 128), Preprocess(None, "none")),
        "shapes": lambda: (shapes(), Preprocess(None, "none")),
    }[kind]()
    found = verdict(source, cache, quiet)
    for split in source.splits:
        from_files = open_split(source, preprocess, cache, found, split)
        assert isinstance(from_files, FileSplit)
        assert len(from_files) == found.counts[split]
    prepare(source, preprocess, cache, found, quiet)
    for split in source.splits:
        prepared = open_split(source, preprocess, cache, found, split)
        assert isinstance(prepared, PreparedSplit)
        assert_same(prepared, FileSplit(source, preprocess, split))


def test_the_number_of_workers_changes_nothing(celeba_root, tmp_path):
    source = celeba_source(celeba_root)
    splits = []
    for workers in (1, 4):
        prepare_all(source, tmp_path / str(workers), workers=workers)
        splits.append(opened(source, tmp_path / str(workers)))
    assert_same(*splits)


def test_both_kinds_behave_as_a_sequence(celeba_root, cache):
    source = celeba_source(celeba_root)
    before = opened(source, cache)
    prepare_all(source, cache)
    for split in (before, opened(source, cache)):
        assert len(split) == len(split.ids) == 20
        assert split.ids[0] == "00000"
        image, mask = split[0]
        assert image.shape == (24, 24, 3)
        assert mask.shape == (24, 24)
        np.testing.assert_array_equal(split[-1][0], split[19][0])
        with pytest.raises(IndexError):
            split[20]
        image[:], mask[:] = 1, 1  # the caller's own
        assert (split[0][0] != 1).any()


def read_first(split):
    return [array.tobytes() for array in split[0]]


def test_both_kinds_travel_to_another_process(celeba_root, cache):
    source = celeba_source(celeba_root)
    before = opened(source, cache)
    prepare_all(source, cache)
    after = opened(source, cache)
    expected = read_first(after)  # opens the arrays, which must not travel
    assert len(pickle.dumps(after)) < 2000
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        assert pool.submit(read_first, after).result() == expected
        assert pool.submit(read_first, before).result() == expected


def test_messages_say_where_it_reads_from_and_what_is_faster(celeba_root, cache):
    source = celeba_source(celeba_root)
    slow = opened(source, cache).message()
    assert slow.startswith("train: reads the files, ")
    command = f"python scripts/data.py prepare dataset=celebamask_hq dataset.root={celeba_root}"
    assert f"`{command}`" in slow
    prepare_all(source, cache)
    assert opened(source, cache).message().startswith("train: reads the prepared arrays in ")


# Once, and never stale


@pytest.fixture
def writes(monkeypatch):
    """How often arrays have been written."""
    counter = []
    write = cache_module._write_arrays
    monkeypatch.setattr(
        cache_module, "_write_arrays", lambda *arguments: counter.append(1) or write(*arguments)
    )
    return counter


def test_it_is_prepared_once(celeba_root, cache, writes):
    for _ in range(3):
        prepare_all(celeba_source(celeba_root), cache)
    assert len(writes) == 1


def test_changed_files_make_the_arrays_stale(celeba_root, cache, writes):
    prepare_all(celeba_source(celeba_root), cache)
    save(part_path(celeba_root, 1, "hat"), noise(5, 16, 16))
    source = celeba_source(celeba_root)
    assert isinstance(opened(source, cache), FileSplit)
    prepare_all(source, cache)
    assert len(writes) == 2
    assert_same(opened(source, cache), FileSplit(source, SQUARE, "train"))
    assert len(list((cache / "prepared").iterdir())) == 1, "the stale arrays are gone"


@pytest.mark.parametrize("other", [Preprocess(16, "square"), Preprocess(24, "none")])
def test_another_size_is_another_cache(celeba_root, cache, writes, other):
    source = celeba_source(celeba_root)
    prepare_all(source, cache)
    assert isinstance(opened(source, cache, other), FileSplit)
    prepare_all(source, cache, other)
    for preprocess in (SQUARE, other):
        assert isinstance(opened(source, cache, preprocess), PreparedSplit)
        assert_same(opened(source, cache, preprocess), FileSplit(source, preprocess, "train"))
    assert len(writes) == 2


def test_another_split_is_another_cache(celeba_root, cache):
    prepare_all(celeba_source(celeba_root), cache)
    other = celeba_source(celeba_root, {**CELEBA_SPLIT, "counts": [10, 10, 10]})
    assert isinstance(opened(other, cache), FileSplit)


def test_another_seed_of_shapes_is_another_cache(cache):
    nothing = Preprocess(None, "none")
    prepare_all(shapes(), cache, nothing)
    assert isinstance(opened(shapes(), cache, nothing), PreparedSplit)
    assert isinstance(opened(shapes(seed=1), cache, nothing), FileSplit)


@pytest.mark.parametrize("library", ["cv2", "albumentations", "PIL"])
def test_another_library_version_makes_the_arrays_stale(
    celeba_root, cache, monkeypatch, library, writes
):
    source = celeba_source(celeba_root)
    prepare_all(source, cache)
    monkeypatch.setattr(getattr(cache_module, library), "__version__", "0.0.1")
    assert isinstance(opened(source, cache), FileSplit)
    prepare_all(source, cache)
    assert len(writes) == 2
    assert isinstance(opened(source, cache), PreparedSplit)


def test_another_version_of_ours_makes_the_arrays_stale(celeba_root, cache, monkeypatch):
    source = celeba_source(celeba_root)
    prepare_all(source, cache)
    monkeypatch.setattr(cache_module, "CACHE_VERSION", cache_module.CACHE_VERSION + 1)
    assert isinstance(opened(source, cache), FileSplit)


@pytest.mark.parametrize("damage", ["no meta", "half a meta", "no array", "half an array"])
def test_damaged_arrays_are_never_read(celeba_root, cache, damage):
    source = celeba_source(celeba_root)
    prepare_all(source, cache)
    (folder,) = (cache / "prepared").glob("*/arrays")
    meta, array = folder / "meta.json", folder / "val-masks.npy"
    if damage == "no meta":
        meta.unlink()
    elif damage == "half a meta":
        meta.write_text(meta.read_text()[:100])
    elif damage == "no array":
        array.unlink()
    else:
        array.write_bytes(array.read_bytes()[:1000])
    assert isinstance(opened(source, cache), FileSplit)
    prepare_all(source, cache)
    assert_same(opened(source, cache, split="val"), FileSplit(source, SQUARE, "val"))


def test_meta_says_what_the_arrays_are(celeba_root, cache):
    found = prepare_all(celeba_source(celeba_root), cache)
    (path,) = (cache / "prepared").glob("*/arrays/meta.json")
    meta = json.loads(path.read_text())
    assert meta["fingerprint"] == found.fingerprint
    assert meta["shape"] == [24, 24]
    assert meta["preprocess"]["size"] == 24
    assert meta["preprocess"]["pad"] == "square"
    assert meta["preprocess"]["interpolation"]["mask"] == "cv2.INTER_NEAREST_EXACT"
    assert set(meta["versions"]) == {"albumentations", "opencv", "pillow"}
    assert meta["ids"]["test"] == ["00026", "00027", "00028", "00029"]


# Whole or absent


class Killed(BaseException):
    """As a signal is."""


def killing(after):
    def progress(items, total, what):  # noqa: ARG001
        for number, item in enumerate(items):
            if number == after:
                raise Killed
            yield item

    return progress


@pytest.mark.parametrize("after", [0, 3])
def test_a_killed_writer_leaves_nothing(celeba_root, cache, after):
    source = celeba_source(celeba_root)
    with pytest.raises(Killed):
        prepare_all(source, cache, progress=killing(after))
    assert entries(cache) == []
    assert isinstance(opened(source, cache), FileSplit)
    prepare_all(source, cache)
    assert isinstance(opened(source, cache), PreparedSplit)


def test_a_killed_writer_leaves_the_older_arrays(celeba_root, cache):
    """Those that were stale stay until the new ones are whole."""
    prepare_all(celeba_source(celeba_root), cache)
    before = entries(cache)
    save(part_path(celeba_root, 1, "hat"), noise(5, 16, 16))
    with pytest.raises(Killed):
        prepare_all(celeba_source(celeba_root), cache, progress=killing(2))
    assert entries(cache) == before
    assert isinstance(opened(celeba_source(celeba_root), cache), FileSplit)


def test_what_a_dead_process_left_is_cleared_away(celeba_root, cache):
    source = celeba_source(celeba_root)
    found = verdict(source, cache, quiet)
    folder = cache_module._folder(source, SQUARE, cache)
    (folder / ".arrays-dead.tmp").mkdir(parents=True)
    (folder / ".arrays-dead.tmp" / "train-images.npy").write_bytes(b"half")
    prepare(source, SQUARE, cache, found, quiet)
    assert not list(folder.glob(".*.tmp"))


def test_two_writers_do_not_meet(celeba_root, cache):
    source = celeba_source(celeba_root)
    found = verdict(source, cache, quiet)
    lock = cache_module._folder(source, SQUARE, cache) / "lock"
    with locked(lock, "it"), pytest.raises(RunError, match="another process"):
        prepare(source, SQUARE, cache, found, quiet)


def test_a_full_disk_is_known_before_writing(celeba_root, cache, monkeypatch, writes):
    source = celeba_source(celeba_root)
    found = verdict(source, cache, quiet)
    # 30 images of 24 x 24 pixels, 4 bytes each, and 128 bytes beside each image
    needed = 30 * (24 * 24 * 4 + 128)
    usage = shutil.disk_usage(cache)
    monkeypatch.setattr(
        cache_module.shutil, "disk_usage", lambda _: usage._replace(free=needed - 1)
    )
    with pytest.raises(DataError, match=r"take 71\.2 KiB, and the disk has 71\.2 KiB left"):
        prepare(source, SQUARE, cache, found, quiet)
    assert writes == []
    monkeypatch.setattr(cache_module.shutil, "disk_usage", lambda _: usage._replace(free=needed))
    prepare(source, SQUARE, cache, found, quiet)
    written = sum(path.stat().st_size for path in (cache / "prepared").rglob("arrays/*"))
    assert written < needed


def test_a_disk_that_fills_up_while_writing_is_a_readable_error(celeba_root, cache, monkeypatch):
    def full(*arguments):  # noqa: ARG001
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(cache_module, "_write_header", full)
    with pytest.raises(DataError, match="cannot write the prepared arrays.*No space left"):
        prepare_all(celeba_source(celeba_root), cache)
    assert entries(cache) == []


# What cannot be prepared


def test_a_data_set_with_faults_is_refused(celeba_root, cache):
    (celeba_root / "CelebA-HQ-img" / "0.jpg").write_bytes(b"")
    with pytest.raises(DataError, match="1 fault "):
        prepare_all(celeba_source(celeba_root), cache)
    assert entries(cache) == []


def test_images_of_different_sizes_need_padding(celeba_root, cache):
    save(celeba_root / "CelebA-HQ-img" / "1.jpg", noise(0, 32, 16, 3))
    save(part_path(celeba_root, 1, "hat"), noise(0, 16, 8))
    source = celeba_source(celeba_root)
    with pytest.raises(DataError) as error:
        prepare_all(source, cache, Preprocess(24, "none"))
    message = str(error.value)
    assert "dataset.size=24 and dataset.pad=none" in message
    assert "24 x 12, 24 x 24" in message
    assert message.endswith("Set dataset.pad=square")
    prepare_all(source, cache)
    assert opened(source, cache)[1][0].shape == (24, 24, 3)


def test_one_shape_is_that_of_every_image(city_root, cache):
    source = city_source(city_root)
    found = verdict(source, cache, quiet)
    assert one_shape(source, Preprocess(24, "none"), found) == (12, 24)
    assert one_shape(source, Preprocess(24, "square"), found) == (24, 24)
    assert one_shape(source, Preprocess(None, "none"), found) == (16, 32)
    assert opened(source, cache, Preprocess(24, "none"))[0][1].shape == (12, 24)
