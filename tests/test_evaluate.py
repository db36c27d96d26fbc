"""scripts/evaluate.py says of a finished run what its own counts say, and more."""

import math
import sys
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from seglab import config, experiment, record, store
from seglab.data import augment, cache, check, module
from seglab.data.preprocess import Preprocess
from seglab.metrics import areas, pairs
from seglab.postprocess import ClosingLargest, Unchanged
from tests.conftest import ROOT, TINY
from tests.data import trees


def test_a_miss_is_counted_and_never_dropped():
    found = pairs.summarise([1.0, math.inf, math.nan, 3.0, math.inf], [9, 10, 9, 2, 20])
    # a miss counts as its own image's diagonal, and what was found as what it is
    assert found == pairs.Summary(mean=2.0, penalised=34 / 4, finite=2, misses=2, undefined=1)
    nothing = pairs.summarise([math.nan], [10.0])
    assert math.isnan(nothing.mean)
    assert math.isnan(nothing.penalised)
    assert nothing[2:] == (0, 0, 1)


def test_the_diagonal_has_the_unit_of_the_spacing():
    assert pairs.diagonal((30, 40), None) == 50
    assert pairs.diagonal((4, 30, 40), (30.0, 0.5, 0.5)) == math.hypot(120, 15, 20)


def test_a_pair_has_every_metric_in_two_dimensions_and_in_three():
    rng = np.random.default_rng(0)
    flat, volume = (rng.random((2, *shape)) < 0.4 for shape in ((8, 9), (3, 8, 9)))
    both = pairs.of_pair(*flat, flat[0].size)
    deep = pairs.of_pair(*volume, volume[0].size, (2.0, 1.0, 1.0))
    assert list(both) == list(deep)
    assert all(math.isfinite(value) for value in [*both.values(), *deep.values()])
    assert both["precision"] == (flat[0] & flat[1]).sum() / flat[0].sum()
    assert both["recall"] == (flat[0] & flat[1]).sum() / flat[1].sum()


@pytest.mark.parametrize("spacing", [(1.0, 1.0), (0.3, 3.0)])
def test_a_pair_is_the_same_within_a_larger_image(spacing):
    rng = np.random.default_rng(0)
    masks = rng.random((2, 6, 7)) < 0.5
    wide = [np.pad(mask, 40) for mask in masks]  # no tolerance reaches its border
    wider = [np.pad(mask, ((9, 0), (33, 17))) for mask in wide]
    expected = pairs.of_pair(*wide, 1000, spacing)
    assert pairs.of_pair(*wider, 1000, spacing) == pytest.approx(expected, rel=1e-9)
    widened = areas.boundary_dice(*wide, (0, *pairs.TOLERANCES))  # of the whole image
    assert [v for name, v in expected.items() if name.startswith("b_dsc")] == widened


def test_boundary_dice_widens_by_pixels_whatever_their_size():
    one, other = np.zeros((2, 5, 5, 9), dtype=bool)
    one[2, 2, 2] = other[2, 2, 5] = True  # 3 apart: from 2 on, both balls hold a voxel between
    found = pairs.of_pair(one, other, one.size, (1.0, 1.0, 40.0))
    assert [found[f"b_dsc{t}"] > 0 for t in ("", "_1", "_2", "_3")] == [False, False, True, True]
    assert found["hausdorff"] == 120


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    results = tmp_path_factory.mktemp("evaluate") / "results"
    overrides = [*TINY, f"results_dir='{results}'", "loss=dice"]
    return experiment.run(config.read(*config.compose(overrides)))


@pytest.fixture
def script(monkeypatch):
    """scripts/evaluate.py."""
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    import evaluate

    return evaluate


@pytest.fixture
def evaluate(script, monkeypatch, capsys):
    """evaluate(RUN, ...) -> (exit code, what it printed, its error)."""

    def evaluate_(*arguments):
        monkeypatch.setattr(sys, "argv", ["evaluate.py", *map(str, arguments)])
        code = config.guarded(script.main, [])
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return evaluate_


def test_its_precision_is_that_of_the_stored_counts(evaluate, finished, tmp_path):
    code, text, error = evaluate(finished, "--output", tmp_path / "images.csv")
    assert code == 0, error
    assert ", test, background; in pixels\n" in text
    assert "hd95_surfel" in text
    assert "roc_auc" in text
    found = pd.read_csv(tmp_path / "images.csv")
    (run,) = store.finished_runs(finished.parents[1])
    kept = pd.read_parquet(run.folder / "images.parquet")
    kept = kept[(kept["checkpoint"] == "best") & (kept["split"] == "test")]
    kept = kept.sort_values(["image", "class"])
    names = run.record["dataset"]["classes"]
    found["order"] = found["class"].map(names.index)
    found = found.sort_values(["image", "order"])
    expected = (kept["tp"] / (kept["tp"] + kept["fp"])).to_numpy()
    assert len(found) == len(expected) == 9
    np.testing.assert_allclose(found["precision"], expected)


def test_images_that_are_evaluated_as_crops_are_measured_as_the_same_crops(
    evaluate, tiny, tmp_path
):
    crop = "{_target_: albumentations.RandomCrop, height: 32, width: 16}"
    folder = experiment.run(tiny("dataset.width=64", f"augmentation.evaluation=[{crop}]"))
    code, _, error = evaluate(folder, "--output", tmp_path / "images.csv")
    assert code == 0, error
    same_iou_as_stored(folder, pd.read_csv(tmp_path / "images.csv"))


def test_a_run_on_volumes_is_measured_under_its_own_postprocess(evaluate, read, tmp_path):
    root = trees.nifti(tmp_path / "scans")
    overrides = ("model=vnet", "model.channels=4", "dataset.patch=[16,16,16]", "trainer.epochs=1")
    settings = read(
        "dataset=nifti", f"dataset.root='{root}'", "trainer=cpu", "logger=none",
        "postprocess=closing_largest", "postprocess.components=1", *overrides,
    )  # fmt: skip
    folder = experiment.run(settings)
    code, text, error = evaluate(folder, "--output", tmp_path / "images.csv")
    assert code == 0, error
    assert "; in mm\n" in text
    same_iou_as_stored(folder, pd.read_csv(tmp_path / "images.csv"))


def same_iou_as_stored(folder, found):
    kept = pd.read_parquet(folder / "images.parquet")
    kept = kept[(kept["checkpoint"] == "best") & (kept["split"] == "test")]
    names = record.read_record(folder)["dataset"]["classes"]
    kept = kept.assign(**{"class": [names[number] for number in kept["class"]]})
    both = kept.merge(found, on=["image", "class"], validate="one_to_one")
    assert len(both) == len(kept) == len(found)
    assert both["tp"].sum() > 0
    np.testing.assert_allclose(both["iou"], both["tp"] / both[["tp", "fp", "fn"]].sum(axis=1))


@pytest.fixture
def volumes(tmp_path, read):
    """Volumes 3 mm a slice, and a run on them that sees everything one slice too high."""
    root = trees.nifti(tmp_path / "scans")
    settings = read("dataset=nifti", f"dataset.root='{root}'", "trainer=cpu", "loss=dice")
    source = config.build(settings, "dataset")
    verdict = check.require_clean(source, settings.cache_dir)
    truths = iter([source.read_mask(sample) for sample in source.samples("test")])

    def probabilities(image):
        assert image.dtype == torch.float32
        assert image.shape == (1, 1, 6, 12, 10)
        moved = np.roll(next(truths), 1, axis=0)
        return torch.from_numpy(np.eye(3, dtype=np.float32)[moved]).movedim(-1, 0)[None]

    return SimpleNamespace(
        folder=tmp_path,
        settings=settings,
        record={"science": {"data": verdict.fingerprint}},
        probabilities=probabilities,
        finished=Unchanged(),
    )


def test_volumes_are_measured_whole_and_in_millimetres(script, volumes):
    images, ranked = script.evaluated(volumes, "test")
    assert list(images.columns[:4]) == list(script.ABOUT)
    assert images["class"].tolist() == ["background", "a", "b"] * (len(images) // 3)
    assert set(images["unit"]) == {"mm"}
    assert images["diagonal"].unique() == pytest.approx(math.hypot(18, 12, 10))
    box = images[images["class"] == "a"]  # 4 slices of 5 x 4, the image and its copy 3 mm apart
    assert box["dice"].tolist() == pytest.approx([3 / 4] * len(box))
    assert box["hausdorff"].tolist() == [3.0] * len(box)
    shares = [ranking.ranking.auc for ranking in ranked]  # of 0 and 1: half of the wrong is lost
    for label, auc in zip(("background", "a", "b"), shares, strict=True):
        own = images[images["class"] == label]
        assert own["balanced_accuracy"].mean() == pytest.approx(auc)


RESIZE = "{_target_: albumentations.Resize, height: 40, width: 40}"


@pytest.mark.parametrize(
    ("options", "unit", "row"),
    [
        (("dataset.size=null",), "mm", 3.0),
        (("dataset.size=20",), "mm", 1.5),  # twice as many rows
        (("dataset.size=20", f"augmentation.evaluation=[{RESIZE}]"), "pixels", 1.0),
    ],
)
def test_slices_are_measured_in_the_millimetres_of_their_resized_pixels(
    script, tmp_path, read, options, unit, row
):
    """Coronal slices of 3 x 1 mm, and a run that sees everything one row too low."""
    root = trees.nifti(tmp_path / "scans")
    settings = read(
        "dataset=nifti_slices", f"dataset.root='{root}'", "dataset.axis=coronal", "trainer=cpu",
        "dataset.empty_slices=drop", *options,
    )  # fmt: skip
    source = config.build(settings, "dataset")
    verdict = check.require_clean(source, settings.cache_dir)
    preprocess = Preprocess(settings.dataset.size, settings.dataset.pad)
    split = cache.open_split(source, preprocess, settings.cache_dir, verdict, "test")
    drawn = config.build(settings, "augmentation").evaluation
    shown = iter(module.Images(split, None, drawn, augment.EVALUATION_STREAM))

    def probabilities(image):
        truth = next(shown)["target"].numpy()
        assert image.shape[2:] == truth.shape
        moved = np.roll(np.where(truth == 255, 0, truth), 1, axis=0)
        return torch.from_numpy(np.eye(3, dtype=np.float32)[moved]).movedim(-1, 0)[None]

    run = SimpleNamespace(
        folder=tmp_path,
        settings=settings,
        record={"science": {"data": verdict.fingerprint}},
        probabilities=probabilities,
        finished=Unchanged(),
    )
    images, _ = script.evaluated(run, "test")
    assert set(images["unit"]) == {unit}
    box = images[(images["class"] == "a") & (images["hausdorff"] > 0)]
    assert len(box) > 4
    assert box["hausdorff"].tolist() == [row] * len(box)


def test_what_is_measured_is_what_the_run_counts(script, volumes):
    volumes.finished = ClosingLargest(radius=0, components=1)  # class b is the smaller one
    images, _ = script.evaluated(volumes, "test")
    dice = images.groupby("class")["dice"].mean()
    assert dice["b"] == 0
    assert dice["a"] == pytest.approx(3 / 4)
    b = images[images["class"] == "b"]
    summary = pairs.summarise(b["hd95_surfel"], b["diagonal"])
    assert (summary.finite, summary.misses) == (0, len(b))
    assert summary.penalised == pytest.approx(math.hypot(18, 12, 10))


def test_what_is_not_there_is_one_message(evaluate, finished):
    for arguments, says in (
        (["nowhere"], "nowhere: neither a folder nor a run in"),
        ([finished, "--split", "tset"], "--split tset: must be one of train, val, test"),
    ):
        code, _, error = evaluate(*arguments)
        assert code == 1
        assert says in error
