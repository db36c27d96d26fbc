"""The measured tables say which losses cannot be told from the best, and where nothing is told."""

import csv
import io

import numpy as np
import pandas as pd
import pytest

from seglab import stats, store
from seglab.scores import iou
from seglab.tables import marks, render
from seglab.tables.published import LOSSES
from tests.tables.runs import RATIOS, make_run
from tests.tables.test_measured import sheets

SHARES = dict(zip(LOSSES, (0.80, 0.60, 0.60, 0.80, 0.60, 0.80), strict=True))  # of pixels found


@pytest.fixture(autouse=True)
def _few_resamples_over_seeds(monkeypatch):
    monkeypatch.setattr(marks, "RESAMPLES_OVER_SEEDS", 200)


def run_on(results, loss, images, seed=42, prefix="", **kwargs):
    """A run whose test images are `images`; each image, loss and seed has its own noise."""
    make_run(results, loss=loss, seed=seed, **kwargs)
    folder = max((results / "runs").iterdir(), key=lambda path: path.stat().st_ctime_ns)
    rng = np.random.default_rng([list(LOSSES).index(loss), seed])
    split = "val" if kwargs.get("dataset") == "cityscapes" else "test"
    columns = {"checkpoint": "best", "split": split, "class": 1}
    columns["image"] = [f"{prefix}{i:03d}" for i in range(images)]
    for name in ("", *(f"boundary_{ratio:g}_" for ratio in RATIOS)):
        columns[f"{name}tp"] = rng.binomial(1000, SHARES[loss], images) + rng.integers(9, size=1)
        columns[f"{name}fp"] = rng.integers(0, 40, images)
        columns[f"{name}fn"] = 1009 - columns[f"{name}tp"]
    pd.DataFrame(columns).to_parquet(folder / "images.parquet", index=False)


def grid(results, images, seeds=(42,), **kwargs):
    for loss in LOSSES:
        for seed in seeds:
            run_on(results, loss, images, seed, **kwargs)


def column_of(sheet, metric="nuclei:biou"):
    return {loss: sheet.cells[loss, metric] for loss in LOSSES}


def test_what_cannot_be_told_from_the_best_is_marked_in_every_form(tmp_path):
    grid(tmp_path, 30)
    sheet = sheets(tmp_path)["nuclei_4.1"]
    runs = {run.record["choices"]["loss"]: run for run in store.finished_runs(tmp_path)}
    counts = np.stack([runs[loss].counts("best", "test")[:, :, 1] for loss in LOSSES])
    expected = stats.against_best(counts, iou, "dataset", marks.RESAMPLES, marks.SEED)
    cells = column_of(sheet)
    best = list(LOSSES)[expected.best]
    assert best in ("ce", "combo", "dist")
    for place, (loss, cell) in enumerate(cells.items()):
        far = SHARES[loss] < 0.7
        verdict = "best" if loss == best else "apart" if far else "same"
        assert (cell.told.verdict, expected.same[place]) == (verdict, not far)
        assert cell.told.p == (None if loss == best else pytest.approx(expected.p[place]))
        number = f"{cell.measured:.4f}"
        dagger = "\N{DAGGER}" * (verdict == "same")
        assert sheet.show("measured")[loss, "nuclei:biou"].text == number + dagger
    (same,) = {"ce", "combo"} - {best} if best != "dist" else {"ce"}
    assert f"{cells[same].measured:.4f}" + r"\dag{}" in render.latex(sheet)
    rows = {row["row"]: row for row in csv.DictReader(io.StringIO(render.tidy_csv(sheet)))
            if row["column"] == "nuclei:biou"}  # fmt: skip
    assert [rows[label]["against_best"] for label in LOSSES.values()] == [
        cell.told.verdict for cell in cells.values()
    ]
    assert float(rows["IoU"]["p_against_best"]) == pytest.approx(cells["iou"].told.p, abs=1e-6)
    for part in ("30 images", "of one seed", "10000 resamples", "Superiority has no such test"):
        assert part in sheet.caption("measured")
    assert sheet.cells["ce", "nuclei:superiority_biou"].told is None
    assert "\N{DAGGER}" not in sheet.caption("published") + sheet.caption("compared")


def untold(sheet, dataset="nuclei"):
    """What the caption says instead of marks; no cell may be marked."""
    assert all(cell.told is None for cell in sheet.cells.values())
    assert "\N{DAGGER}" not in render.markdown(sheet)
    _, _, said = sheet.caption("measured").partition(f"{dataset}: no mark (")
    return said


@pytest.mark.parametrize(
    ("images", "said"), [(1, "one image: no interval over images)."), (5, "5 images: too few for")]
)
def test_few_images_mark_nothing_and_the_caption_says_so(tmp_path, images, said):
    grid(tmp_path, images)
    assert untold(sheets(tmp_path)["nuclei_4.1"]).startswith(said)


def test_several_seeds_are_tested_over_seeds_and_two_are_too_few(tmp_path):
    grid(tmp_path, 12, seeds=(1, 2))
    assert untold(sheets(tmp_path)["nuclei_4.1"]).startswith("2 seeds: too few for an interval")
    for loss in LOSSES:
        run_on(tmp_path, loss, 12, seed=3)
    sheet = sheets(tmp_path)["nuclei_4.1"]
    assert "over 3 seeds (Student's t) and 12 images" in sheet.caption("measured")
    runs = store.finished_runs(tmp_path)
    counts = np.stack(
        [
            [r.counts("best", "test")[:, :, 0] for r in runs if r.record["choices"]["loss"] == loss]
            for loss in LOSSES
        ]
    )
    expected = stats.against_best_over_seeds(counts, iou, "dataset", 200, marks.SEED)
    told = {loss: cell.told for loss, cell in column_of(sheet, "nuclei:iou").items()}
    assert told.pop(list(LOSSES)[expected.best]).verdict == "best"
    for loss, verdict in told.items():
        assert verdict.p == pytest.approx(expected.p[list(LOSSES).index(loss)])
    run_on(tmp_path, "ce", 12, seed=4)
    assert untold(sheets(tmp_path)["nuclei_4.1"]).startswith(
        "the losses have not run with the same"
    )


def test_a_table_of_one_seed_is_tested_on_that_seed_alone(tmp_path):
    grid(tmp_path, 30, seeds=(42, 1, 2), dataset="cityscapes")
    sheet = sheets(tmp_path)["4.1"]
    assert "cityscapes: paired bootstrap over 30 images" in sheet.caption("measured")
    assert "celebamask_hq: no mark (fewer than two losses" in sheet.caption("measured")
    counts = np.stack([
        run.counts("best", "val")[:, :, 0]
        for loss in LOSSES for run in store.finished_runs(tmp_path)
        if (run.record["choices"]["loss"], run.record["seed"]) == (loss, 42)
    ])  # fmt: skip
    expected = stats.against_best(counts, iou, "dataset", marks.RESAMPLES, marks.SEED)
    for place, cell in enumerate(column_of(sheet, "cityscapes:iou").values()):
        assert cell.told.p == (None if place == expected.best else pytest.approx(expected.p[place]))


def test_runs_on_other_images_are_not_compared(tmp_path):
    for loss in LOSSES:
        run_on(tmp_path, loss, 12, prefix="x" * (loss == "ce"))
    assert untold(sheets(tmp_path)["nuclei_4.1"]).startswith(
        "the runs were not measured on the same"
    )


def test_windows_of_one_image_are_one_image(tmp_path):
    grid(tmp_path, 30)
    for path in (tmp_path / "runs").glob("*/record.json"):
        path.write_text(path.read_text().replace('"test_split"', '"test_images": 1, "test_split"'))
    said = untold(sheets(tmp_path)["nuclei_4.1"])
    assert said.startswith("the 30 test samples are windows of one image, and not independent")


def test_one_loss_has_nothing_to_be_compared_with(tmp_path):
    run_on(tmp_path, "ce", 12)
    assert untold(sheets(tmp_path)["nuclei_4.1"]).startswith("fewer than two losses have run")
