"""The tables of Bakos, Caliva and the poster: each from runs by the rule of its source."""

import itertools
import json
import random

import numpy as np
import pandas as pd
import pytest

from seglab import store
from seglab.errors import RunError
from seglab.tables import render
from seglab.tables.measured import Measured
from seglab.tables.others import other_sheets
from seglab.tables.poster import LOSSES as POSTER
from seglab.tables.published import read
from seglab.tables.readings import Convention, read_runs
from tests.conftest import ROOT
from tests.tables.runs import RATIOS, make_run

PUBLISHED = read(ROOT / "results" / "published")
COVID = {"dataset": "covid_qu_ex_infection", "encoder": "none", "loss": "focal_tversky"}
SLIDES = {"dataset": "wsi", "model": "vanilla_unet", "encoder": "none"}
KNEE = {"dataset": "nifti", "model": "vnet", "encoder": "none"}


def sheets(results, aggregation="dataset", epoch="best", order=None):
    runs = store.finished_runs(results)
    if order is not None:
        random.Random(order).shuffle(runs)
    convention = Convention(aggregation, 0.02, epoch)
    readings, damaged = read_runs(runs, convention)
    if damaged:
        raise damaged[0]
    return {s.name: s for s in other_sheets(PUBLISHED, Measured(readings, convention))}


def trial(results, validation, training=None, *, order=None, **kwargs):
    """A run with these columns in the validation and in the training rows of its epochs.csv."""
    before = set((results / "runs").glob("*"))
    length = len(next(iter(validation.values())))
    make_run(results, curve=[0.1] * length, **kwargs)
    (folder,) = set((results / "runs").glob("*")) - before
    epochs = pd.read_csv(folder / "epochs.csv")
    for split, columns in (("val", validation), ("train", training or {})):
        for column, values in columns.items():
            epochs.loc[epochs["split"] == split, column] = values
    if order is not None:
        epochs = epochs.sample(frac=1, random_state=order)
    epochs.to_csv(folder / "epochs.csv", index=False)
    return folder


def test_table_1_is_the_median_of_the_last_five_epochs_of_each_run_and_their_deviation(tmp_path):
    # medians of the last five: 0.5 and 0.7; means 0.52 and 0.72; with the first two 0.4 and 0.6
    curves = {1: [0.0, 0.1, 0.4, 0.9, 0.5, 0.3, 0.5], 2: [0.2, 0.3, 0.6, 1.1, 0.7, 0.5, 0.7]}
    for seed, curve in curves.items():
        validation = {"dice": curve, "ba": curve[::-1], "loss": [2 * v for v in curve]}
        training = {"loss": [3 * v for v in curve]}
        trial(tmp_path, validation, training, order=seed, seed=seed, model="vanilla_unet", **COVID)
    sheet = sheets(tmp_path)["medical_1"]
    of = {metric: sheet.cells["unet", metric] for metric in sheet.columns}
    assert of["dsc"].measured == pytest.approx(0.6)
    assert of["val_loss"].measured == pytest.approx(1.2)
    assert of["loss"].measured == pytest.approx(1.8)
    assert of["ba"].measured == pytest.approx((0.4 + 0.6) / 2)
    deviation = np.std([0.5, 0.7], ddof=1)
    assert sheet.cells["unet:std", "dsc"].measured == pytest.approx(deviation)
    assert sheet.show("measured")["unet:std", "dsc"].text == "(0.1414)"
    assert of["dsc"].noise == pytest.approx(deviation)
    assert sheet.show("compared")["unet", "dsc"].text.startswith("0.8156 / 0.6000 / -0.2156")
    assert of["jaccard"].measured is None  # these made runs have no such column
    assert sheet.cells["attention_unet", "dsc"].measured is None


def test_table_2_is_the_last_epoch(tmp_path):
    for seed, last in ((1, 0.7), (2, 0.8)):
        kwargs = COVID | {"loss": "iou", "model": "residual_attention_unet", "seed": seed}
        trial(tmp_path, {"iou": [0.99, 0.1, last], "auc": [0.1, 0.2, 0.9]}, order=seed, **kwargs)
    cells = sheets(tmp_path)["medical_2"].cells
    assert cells["jaccard", "jaccard"].measured == pytest.approx(0.75)
    assert cells["jaccard", "auc"].measured == pytest.approx(0.9)
    assert cells["lovasz", "jaccard"].measured is None


def test_tables_3_and_4_are_the_mean_of_three_epochs_each_loss_in_its_own_protocol(tmp_path):
    losses = ("boundary", "boundary_tversky", "boundary_tversky_linear", "boundary_bce")
    for place, loss in enumerate(losses):
        validation = {"ap": [0.0, 0.1 * place, 0.2, 0.3], "dice": [9.0, 0.5, 0.5, 0.5]}
        trial(tmp_path, validation, seed=1, loss=loss, lr=1e-5, **SLIDES)
    for loss in ("tversky", "weighted_bce"):
        for seed in range(1, 6):
            trial(tmp_path, {"ap": [0.0, 0.4, 0.5, 0.6]}, seed=seed, loss=loss, lr=1e-4, **SLIDES)
    found = sheets(tmp_path)
    three = [found["medical_3"].cells[row, "ap"].measured for row in found["medical_3"].rows]
    assert three == pytest.approx([0.5 / 3, 0.5, 0.6 / 3, 0.7 / 3])
    four = [found["medical_4"].cells[row, "ap"].measured for row in found["medical_4"].rows]
    assert four == pytest.approx([0.5 / 3, 0.5, 0.8 / 3])
    caption = found["medical_3"].caption("measured")
    assert "Boundary 1 (seed 1; 4 epochs at learning rate 1e-05)" in caption
    assert "Tversky 5 (seeds 1, 2, 3, 4, 5; 4 epochs at learning rate 0.0001)" in caption
    assert "private" in caption


def test_the_aggregation_chooses_among_the_columns_that_have_one(tmp_path):
    validation = {"dice": [0.5], "dice_image": [0.6], "iou": [0.3], "iou_image": [0.4], "ba": [0.7]}
    trial(tmp_path, validation, model="attention_unet", seed=1, **COVID)
    for aggregation, dsc, jaccard in (("dataset", 0.5, 0.3), ("image", 0.6, 0.4)):
        sheet = sheets(tmp_path, aggregation)["medical_1"]
        found = [sheet.cells["attention_unet", m].measured for m in ("dsc", "jaccard", "ba")]
        assert found == pytest.approx([dsc, jaccard, 0.7])
        assert f"Jaccard: {aggregation} (" in sheet.caption("measured")


def test_a_column_that_no_run_has_is_named_with_what_makes_it(tmp_path):
    trial(tmp_path, {"dice": [0.5], "auc": [0.9]}, model="vanilla_unet", seed=1, **COVID)
    found = sheets(tmp_path)
    assert found["medical_1"].cells["unet", "ap"].measured is None
    assert "metrics.further=[ba,ap,mahd]" in found["medical_1"].caption("measured")
    assert "metrics.further" not in found["medical_2"].caption("measured")  # nothing has run there


def test_what_is_undefined_enters_no_mean_and_is_counted(tmp_path):
    kwargs = {"model": "vanilla_unet", **COVID}
    for seed, mahd, misses in ((1, 0.3, 0.0), (2, np.nan, 4.0), (3, 0.5, 2.0)):
        columns = {"mahd": [0.2, mahd, 0.3], "mahd_misses": [0.0, misses, misses]}
        trial(tmp_path, columns, seed=seed, **kwargs)
    sheet = sheets(tmp_path)["medical_1"]
    assert sheet.cells["unet", "mahd"].measured == pytest.approx(0.3)  # medians 0.3 and 0.3
    caption = sheet.caption("measured")
    assert "UNet: MAHD is undefined in 1 of 3 runs" in caption
    assert "UNet: MAHD leaves out 2 images a run" in caption


def test_a_distance_of_an_unknown_unit_has_no_difference_and_no_verdict(tmp_path):
    for seed in (1, 2):
        columns = {"mahd": [14.3] * 5, "dice": [0.5] * 5}
        trial(tmp_path, columns, model="vanilla_unet", seed=seed, **COVID)
        trial(tmp_path, columns, seed=seed, loss="boundary", **SLIDES)
        trial(tmp_path, columns, seed=seed, loss="tversky", **SLIDES)
    found = sheets(tmp_path)
    for name, row in (("medical_1", "unet"), ("medical_3", "boundary"), ("medical_4", "boundary")):
        shown = found[name].show("compared")[row, "mahd"].text
        assert shown.endswith("/ 14.3000 / unit not stated")
        assert shown.startswith(found[name].cells[row, "mahd"].published)
        assert "the unit of the printed one is not stated" in found[name].caption("compared")
    assert found["medical_1"].show("compared")["unet:std", "mahd"].text.endswith("unit not stated")
    rows = [line.split(",") for line in render.tidy_csv(found["medical_1"]).splitlines()]
    assert [row[8:10] for row in rows if row[1:3] == ["UNet", "mahd"]] == [["", "unit not stated"]]
    assert "contradicted" in found["medical_1"].show("compared")["unet", "dsc"].text
    never_printed = found["medical_3"].show("compared")["tversky", "mahd"].text
    assert never_printed.endswith("not published")
    assert found["medical_1"].show("compared")["attention_unet", "mahd"].text.endswith("not run")


def test_the_protocol_of_most_runs_fills_a_row_and_the_others_are_counted(tmp_path):
    kwargs = {"model": "vanilla_unet", **COVID}
    for seed in (1, 2):
        trial(tmp_path, {"dice": [0.5]}, seed=seed, **kwargs)
    trial(tmp_path, {"dice": [0.9]}, seed=3, lr=1e-2, **kwargs)
    trial(tmp_path, {"dice": [0.1]}, seed=3, fold=1, **kwargs)
    sheet = sheets(tmp_path)["medical_1"]
    assert sheet.cells["unet", "dsc"].measured == pytest.approx(0.5)
    assert "1 of another protocol not shown" in sheet.caption("measured")


def knee(results, tps, seed=1, loss="distance_penalty", split_file=None):
    """A run on two volumes of background and two bones, tps[volume][bone] of 100 voxels right.

    As the data set's file has it, with an entry of a file of splits, whether there is one or not.
    """
    make_run(results, loss=loss, seed=seed, **KNEE)
    (folder,) = (results / "runs").glob(f"nifti-*-{loss}-s{seed}-*")
    record = json.loads((folder / "record.json").read_text())
    record["dataset"]["classes"] = ["background", "femur", "tibia"]
    record["science"]["dataset"] |= {"split_file": split_file, "fold": 0}
    (folder / "record.json").write_text(json.dumps(record))
    images = pd.read_parquet(folder / "images.parquet")
    columns = [column for column in images if column.endswith(("tp", "fp", "fn"))]
    rows = [
        {"checkpoint": checkpoint, "split": "test", "image": f"v{volume}", "class": k}
        | dict.fromkeys(columns, 0)
        | {"tp": tp, "fn": 100 - tp}
        for checkpoint in ("best", "last")
        for volume, bones in enumerate(tps)
        for k, tp in enumerate((0, *bones))
    ]
    pd.DataFrame(rows).to_parquet(folder / "images.parquet", index=False)
    return folder


def test_caliva_is_the_dice_of_each_volumes_bones_and_their_deviation(tmp_path):
    knee(tmp_path, [(100, 60), (50, 50)])  # Dice 1 and 0.75; 2/3 twice
    sheet = sheets(tmp_path)["caliva"]
    row = "distance_map_penalised_ce"
    volumes = [100 * (1 + 0.75) / 2, 100 * 2 / 3]
    assert sheet.cells[row, "g_dsc:mean"].measured == pytest.approx(np.mean(volumes))
    assert sheet.cells[row, "g_dsc:std"].measured == pytest.approx(np.std(volumes, ddof=1))
    assert sheet.show("compared")[row, "g_dsc:mean"].text.startswith("96.42 / 77.08 / -19.34")


def test_a_fold_of_a_file_of_splits_is_no_run_of_caliva(tmp_path):
    knee(tmp_path, [(100, 60), (50, 50)], split_file="splits_final.json")
    cells = sheets(tmp_path)["caliva"].cells
    assert cells["distance_map_penalised_ce", "g_dsc:mean"].measured is None


def test_calivas_boundary_dice_is_what_the_evaluation_left_in_the_folder(tmp_path):
    folder = knee(tmp_path, [(100, 60), (50, 50)])
    row = "distance_map_penalised_ce"
    before = sheets(tmp_path)["caliva"]
    assert before.cells[row, "b_dsc:mean"].measured is None
    assert f"further-test.csv`, for RUN {folder.name}." in before.caption("measured")
    rows = [("v0", "background", 0.9), ("v0", "femur", 0.2), ("v0", "tibia", 0.4),
            ("v1", "background", 0.9), ("v1", "femur", 0.5), ("v1", "tibia", np.nan)]  # fmt: skip
    table = pd.DataFrame(rows, columns=["image", "class", "b_dsc"]).sample(frac=1, random_state=0)
    table.to_csv(folder / "further-test.csv", index=False)
    table.assign(b_dsc=1.0).to_csv(folder / "further-val.csv", index=False)
    after = sheets(tmp_path)["caliva"]
    assert after.cells[row, "b_dsc:mean"].measured == pytest.approx(100 * (0.3 + 0.5) / 2)
    assert after.cells[row, "b_dsc:std"].measured == pytest.approx(100 * np.std([0.3, 0.5], ddof=1))
    assert "for RUN" not in after.caption("measured")


@pytest.mark.parametrize("text", ["", "image,b_dsc\nv0,0.5\n"], ids=["empty", "no class"])
def test_an_evaluation_that_cannot_be_read_is_an_error_that_names_it(tmp_path, text):
    folder = knee(tmp_path, [(100, 60), (50, 50)])
    (folder / "further-test.csv").write_text(text)
    with pytest.raises(RunError, match=rf"{folder.name}/further-test\.csv.*evaluate\.py"):
        sheets(tmp_path)


def test_the_poster_is_the_iou_of_the_test_images_and_the_accuracy_of_the_same_epoch(tmp_path):
    kwargs = {"dataset": "cxr", "model": "poster_unet", "encoder": "none"}
    validation = {"accuracy": [0.7, 0.9, 0.8]}  # the second epoch is the best
    trial(tmp_path, validation, loss="focal_alpha", iou=0.8, **kwargs)
    trial(tmp_path, validation, loss="focal", iou=0.1, **kwargs)  # not the poster's focal loss
    best, last = (sheets(tmp_path, epoch=epoch)["poster_2"] for epoch in ("best", "last"))
    assert best.cells["focal", "iou_score"].measured == pytest.approx(0.75)  # 0.8 and 0.7 pooled
    assert best.cells["focal", "binary_accuracy"].measured == pytest.approx(0.9)
    assert last.cells["focal", "binary_accuracy"].measured == pytest.approx(0.8)
    assert best.cells["tversky", "iou_score"].measured is None


def test_the_posters_iou_is_marked_and_the_other_tables_say_why_they_have_no_mark(tmp_path):
    kwargs = {"dataset": "cxr", "model": "poster_unet", "encoder": "none"}
    for loss, share in (("dice_bce", 0.8), ("iou", 0.8), ("tversky", 0.2)):
        make_run(tmp_path, loss=loss, **kwargs)
        (folder,) = (tmp_path / "runs").glob(f"cxr-*-{loss}-s42-*")
        rng = np.random.default_rng(len(loss))
        tp = rng.binomial(1000, share, 30)
        table = pd.DataFrame({"image": [f"{i:02d}" for i in range(30)], "class": 1, "tp": tp})
        table = table.assign(checkpoint="best", split="test", fp=0, fn=1000 - tp)
        for ratio, what in itertools.product(RATIOS, ("tp", "fp", "fn")):
            table[f"boundary_{ratio:g}_{what}"] = table[what]
        table.to_parquet(folder / "images.parquet", index=False)
    trial(tmp_path, {"dice": [0.5]}, model="vanilla_unet", seed=1, **COVID)
    knee(tmp_path, [(100, 60), (50, 50)])
    found = sheets(tmp_path)
    told = {loss: found["poster_2"].cells[loss, "iou_score"].told for loss in POSTER}
    assert {told["dice_bce"].verdict, told["jaccard"].verdict} == {"best", "same"}
    assert told["tversky"].verdict == "apart"
    assert told["focal"] is told["focal_tversky"] is None
    caption = found["poster_2"].caption("measured")
    assert "IoU Score: paired bootstrap over 30 images" in caption
    assert "Binary Accuracy has no such test." in caption
    assert "No mark of what cannot be told from the best: these numbers are kept by epoch" in (
        found["medical_1"].caption("measured")
    )
    assert "No mark of what cannot be told from the best: B-DSC is kept as a number" in (
        found["caliva"].caption("measured")
    )


def test_the_order_of_the_runs_changes_nothing(tmp_path):
    kwargs = {"model": "vanilla_unet", **COVID}
    for seed, lr in ((1, 1e-4), (2, 1e-4), (1, 1e-3), (2, 1e-3)):
        trial(tmp_path, {"dice": [0.1 * seed + 100 * lr]}, seed=seed, lr=lr, **kwargs)
    texts = [
        [render.markdown(s) + render.tidy_csv(s) for s in sheets(tmp_path, order=order).values()]
        for order in (0, 1, 2)
    ]
    assert texts[0] == texts[1] == texts[2]
