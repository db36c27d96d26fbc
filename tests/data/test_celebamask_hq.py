"""CelebAMask-HQ: any set of parts is a face, and the splits are the ones that papers use."""

import pickle

import numpy as np
import pytest
from PIL import Image
from trees import CELEBA_PARTS, CELEBA_SPLIT, celeba_source, part_path, save, stencil

from seglab.data.celebamask_hq import PARTS
from seglab.errors import ConfigError, DataError


def write_celeba_lists(root, codes):
    """The two lists that lead from an image to a split; image n was photograph 100 - n."""
    rows = [f"{n:<10}{99 - n:<12}{100 - n:06d}.jpg" for n in range(len(codes))]
    mapping = "\n".join(["idx   orig_idx    orig_file", *rows]) + "\n"
    (root / "CelebA-HQ-to-CelebA-mapping.txt").write_text(mapping)
    partition = [f"{100 - n:06d}.jpg {code}" for n, code in enumerate(codes)]
    (root / "list_eval_partition.txt").write_text("\n".join(sorted(partition)) + "\n")


def ids(source):
    return {split: [sample.id for sample in source.samples(split)] for split in source.splits}


def test_the_face_is_the_union_of_the_parts_that_exist(celeba_root):
    source = celeba_source(celeba_root)
    for sample in source.samples("train"):
        number = int(sample.id)
        parts = CELEBA_PARTS[number % len(CELEBA_PARTS)]
        union = np.zeros((16, 16), bool)
        for part in parts:
            union |= np.array(Image.open(part_path(celeba_root, number, part)))[..., 0] != 0
        mask = source.read_mask(sample)
        assert mask.dtype == np.uint8
        # each pixel of the mask covers 2 x 2 pixels of the image
        np.testing.assert_array_equal(mask, union.repeat(2, axis=0).repeat(2, axis=1))
        assert source.read_image(sample).shape == (32, 32, 3)


def test_a_mask_takes_the_nearest_label_at_any_ratio(celeba_root):
    save(celeba_root / "CelebA-HQ-img" / "1.jpg", np.zeros((40, 40, 3), np.uint8))
    part = np.random.default_rng(0).integers(0, 2, (15, 15), dtype=np.uint8)
    save(part_path(celeba_root, 1, "hat"), 255 * part)
    source = celeba_source(celeba_root)
    mask = source.read_mask(source.samples("train")[1])
    # the centre of pixel i of 40 lies on pixel floor((i + 1/2) * 15 / 40) of 15, never on an edge
    nearest = np.floor((np.arange(40) + 0.5) * 15 / 40).astype(int)
    np.testing.assert_array_equal(mask, part[np.ix_(nearest, nearest)])


def test_one_part_alone_is_enough(celeba_root):
    source = celeba_source(celeba_root)
    sample = source.samples("train")[1]
    assert [path.name for path in sample.files] == ["1.jpg", "00001_hat.png"]
    assert set(np.unique(source.read_mask(sample))) == {0, 1}


def test_parts_come_in_the_official_order(celeba_root):
    for part in PARTS:
        save(part_path(celeba_root, 5, part), stencil(0, 16))
    sample = celeba_source(celeba_root).samples("train")[5]
    assert [path.stem[6:] for path in sample.files[1:]] == list(PARTS)
    assert len(PARTS) == 18


@pytest.mark.parametrize("form", ["grey", "1 bit"])
def test_a_part_with_one_channel_is_read_alike(celeba_root, form):
    source = celeba_source(celeba_root)
    sample = source.samples("train")[1]
    before = source.read_mask(sample)
    part = np.array(Image.open(sample.files[1]))[..., 0]
    save(sample.files[1], part if form == "grey" else part > 0)
    np.testing.assert_array_equal(source.read_mask(sample), before)


def test_it_travels_to_a_worker_without_its_listing(celeba_root):
    source = celeba_source(celeba_root)
    sample = source.samples("val")[0]
    sent = pickle.loads(pickle.dumps(source))
    assert len(pickle.dumps(source)) < 1000
    np.testing.assert_array_equal(sent.read_mask(sample), source.read_mask(sample))
    assert sent.samples("val") == source.samples("val")


def test_counts_in_the_order_of_the_numbers(celeba_root):
    split = ids(celeba_source(celeba_root))
    assert split["train"] == [f"{n:05d}" for n in range(20)]
    assert split["val"] == [f"{n:05d}" for n in range(20, 26)]
    assert split["test"] == [f"{n:05d}" for n in range(26, 30)]


def test_shuffled_counts_are_the_same_on_every_machine(celeba_root):
    shuffled = {"counts": [20, 6, 4], "order": "shuffled", "seed": 42}
    split = ids(celeba_source(celeba_root, shuffled))
    # sorted by the SHA-256 of "42:<number>", worked out apart from this code:
    # printf '42:%d' 7 | sha256sum, and so on
    assert split["test"] == ["00024", "00018", "00028", "00010"]
    assert sorted(sum(split.values(), [])) == [f"{n:05d}" for n in range(30)]
    assert split != ids(celeba_source(celeba_root, {**shuffled, "seed": 43}))


def test_each_image_is_tested_on_in_one_fold(celeba_root):
    everything = [f"{n:05d}" for n in range(30)]
    tested, validated = [], []
    for fold in range(1, 6):
        split = ids(celeba_source(celeba_root, {"folds": 5, "fold": fold, "order": "index"}))
        assert [len(split[name]) for name in ("train", "val", "test")] == [21, 3, 6]
        assert sorted(sum(split.values(), [])) == everything
        tested += split["test"]
        validated += split["val"]
    assert sorted(tested) == everything
    assert len(set(validated)) == 15
    shuffled = {"folds": 5, "fold": 1, "order": "shuffled", "seed": 42}
    assert ids(celeba_source(celeba_root, shuffled))["test"] != everything[:6]


def test_the_celeba_split_follows_the_original_photograph(celeba_root):
    codes = [(0, 0, 1, 2, 0)[n % 5] for n in range(30)]
    write_celeba_lists(celeba_root, codes)
    source = celeba_source(celeba_root, "celeba")
    for code, split in enumerate(source.splits):
        wanted = [f"{n:05d}" for n in range(30) if codes[n] == code]
        assert [sample.id for sample in source.samples(split)] == wanted
    assert source.layout_faults() == []


def test_the_celeba_split_without_its_lists_says_which(celeba_root):
    source = celeba_source(celeba_root, "celeba")
    with pytest.raises(DataError, match="needs the file CelebA-HQ-to-CelebA-mapping"):
        source.samples("train")
    write_celeba_lists(celeba_root, [0] * 30)
    (celeba_root / "list_eval_partition.txt").unlink()
    with pytest.raises(DataError, match=r"needs the file list_eval_partition\.txt"):
        celeba_source(celeba_root, "celeba").samples("train")


def test_a_missing_root_shows_the_expected_tree(tmp_path):
    with pytest.raises(DataError) as error:
        celeba_source(tmp_path / "nowhere")
    message = str(error.value)
    assert f"dataset.root={tmp_path / 'nowhere'}" in message
    assert "no such folder" in message
    assert "CelebA-HQ-img/0.jpg" in message


def test_a_wrong_layout_says_what_is_missing_and_what_is_there(celeba_root):
    (celeba_root / "CelebA-HQ-img").rename(celeba_root / "images")
    with pytest.raises(DataError) as error:
        celeba_source(celeba_root).samples("train")
    message = str(error.value)
    assert "no folder CelebA-HQ-img" in message
    assert "found there: CelebAMask-HQ-mask-anno, images" in message
    assert "dataset.root" in message


def test_the_folder_above_is_recognised(celeba_root):
    with pytest.raises(DataError, match=rf"did you mean dataset\.root={celeba_root}"):
        celeba_source(celeba_root.parent).samples("train")


@pytest.mark.parametrize(
    ("split", "match"),
    [
        ("celebahq", "=celebahq"),
        ({"counts": [20, 6, 4]}, "expected counts, or folds and fold; order; and seed"),
        (
            {"counts": [20, 6, 4], "order": "index", "sed": 1},
            "expected counts, or folds and fold; order; and seed",
        ),
        ({"counts": [20, 10], "order": "index"}, r"counts=\[20, 10\]"),
        ({"counts": [20, 6, 4], "order": "random"}, "order=random"),
        ({"counts": [20, 6, 4], "order": "shuffled", "seed": None}, "seed is not set"),
        ({"counts": [20, 6, 4], "folds": 5, "fold": 1, "order": "index"}, "expected counts, or"),
        ({"fold": 1, "order": "index"}, "expected counts, or folds and fold"),
        ({"folds": 5, "fold": 6, "order": "index"}, r"fold=6, expected 1 \.\. folds=5"),
        ({"folds": 2, "fold": 1, "order": "index"}, "folds=2, 3 or more"),
    ],
)
def test_a_wrong_split_names_the_key(celeba_root, split, match):
    with pytest.raises(ConfigError, match=rf"dataset\.split.*{match}"):
        celeba_source(celeba_root, split)


def test_a_seed_that_shuffles_nothing_changes_nothing(celeba_root):
    seeded = celeba_source(celeba_root, {**CELEBA_SPLIT, "seed": 7})
    assert seeded.options() == celeba_source(celeba_root).options()
