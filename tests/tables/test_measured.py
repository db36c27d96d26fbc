"""From run folders to tables."""

import random
import shutil

import pytest

from seglab import store
from seglab.errors import RunError
from seglab.tables import render
from seglab.tables.every import every_sheet
from seglab.tables.measured import Measured
from seglab.tables.published import LOSSES, read
from seglab.tables.readings import Convention, read_runs
from tests.conftest import ROOT
from tests.tables.runs import make_run

PUBLISHED = read(ROOT / "results" / "published")
BIOU = dict(zip(LOSSES, (0.50, 0.52, 0.51, 0.42, 0.44, 0.58), strict=True))
CURVES = {
    "ce": (0.10, 0.60, 0.20), "iou": (0.20, 0.50, 0.80), "dice": (0.20, 0.30, 0.60),
    "combo": (0.0, 0.1, 0.2), "dice_focal": (0.0, 0.1, 0.2), "dist": (0.10, 0.60, 0.95),
}  # fmt: skip


def sheets(results, aggregation="dataset", ratio=0.02, epoch="best", threshold=None, order=None):
    runs = store.finished_runs(results)
    if order is not None:
        random.Random(order).shuffle(runs)
    convention = Convention(aggregation, ratio, epoch)
    readings, damaged = read_runs(runs, convention)
    if damaged:
        raise damaged[0]
    measured = Measured(readings, convention)
    return {s.name: s for s in every_sheet(PUBLISHED, measured, {}, threshold)}


def group(results, dataset="nuclei", **kwargs):
    for loss in LOSSES:
        make_run(results, dataset=dataset, loss=loss, biou=BIOU[loss], curve=CURVES[loss], **kwargs)


def test_a_network_is_filled_in_the_layout_of_the_thesis(tmp_path):
    group(tmp_path)
    shown = sheets(tmp_path)["nuclei_4.1"].show("measured")
    # two images of 1000 pixels, IoU 0.58 and 0.48: pooled (580 + 480) / 2000
    assert shown["dist", "nuclei:biou"].text == "0.5300"
    assert shown["dist", "nuclei:biou"].bold
    assert shown["ce", "nuclei:biou"].subscript == "(+0.08)"
    assert shown["dist", "nuclei:biou"].subscript == ""
    assert not shown["ce", "nuclei:biou"].bold
    assert shown["ce", "nuclei:dice"].text == f"{1.5 / 1.75:.4f}"  # 2 J / (1 + J), J = 0.75
    assert all(shown[loss, "nuclei:iou"].bold for loss in LOSSES)  # a tie of all


def test_superiority_shares_a_tied_epoch(tmp_path):
    group(tmp_path)
    shown = sheets(tmp_path)["nuclei_4.1"].show("measured")
    # epoch 1: iou and dice tie; epoch 2: ce and dist tie; epoch 3: dist
    texts = [shown[loss, "nuclei:superiority_biou"].text for loss in LOSSES]
    assert texts == ["16.67", "16.67", "16.67", "0.00", "0.00", "50.00"]


def test_superiority_needs_all_six_losses(tmp_path):
    for loss in list(LOSSES)[1:]:
        make_run(tmp_path, loss=loss)
    found = sheets(tmp_path)
    column = [found["nuclei_4.1"].cells[loss, "nuclei:superiority_biou"] for loss in LOSSES]
    assert all(cell.measured is None for cell in column)
    assert found["nuclei_4.7"].cells["dist", "nuclei:biou"].measured is None


def test_wins_are_counted_with_ties(tmp_path):
    group(tmp_path)
    wins = sheets(tmp_path)["nuclei_4.7"].cells
    assert [wins[loss, "nuclei:biou"].measured for loss in LOSSES] == [0, 0, 0, 0, 0, 1]
    assert [wins[loss, "nuclei:iou"].measured for loss in LOSSES] == [1] * 6


def test_a_network_that_lacks_a_loss_is_not_counted_but_named_with_its_command(tmp_path):
    group(tmp_path)
    group(tmp_path, model="deeplabv3plus")
    group(tmp_path, encoder="resnet50")
    for folder in (tmp_path / "runs").glob("nuclei-unet-resnet50-d*"):  # dice, dice_focal, dist
        shutil.rmtree(folder)
    sheet = sheets(tmp_path)["nuclei_4.7"]
    caption = sheet.caption("measured")
    assert "24 of 24 cells" in caption
    assert sum(sheet.cells[loss, "nuclei:biou"].measured for loss in LOSSES) == 2
    assert "Counted over 2 of 3 experiments" in caption
    assert "Table nuclei_4.2, U-Net & ResNet-50 (lacks Dice, Dice & Focal, Ours)." in caption
    assert caption.count("python train.py") == 1
    assert "-m dataset=nuclei model=unet encoder=resnet50 loss=ce," in caption.replace(
        " seed=42", ""
    )
    assert "Split: nuclei test. Seeds run on nuclei: 1 (42)." in caption
    assert "a count of wins has no such test" in caption


def test_a_column_that_is_decided_in_fewer_networks_says_so(tmp_path):
    for dataset in ("cityscapes", "celebamask_hq"):
        group(tmp_path, dataset=dataset)
    shutil.rmtree(next((tmp_path / "runs").glob("celebamask_hq-*-dist-*")))
    caption = sheets(tmp_path)["4.7"].caption("measured")
    assert "Counted over Cityscapes 1, CelebAMask-HQ 0 of 7 experiments" in caption
    assert (
        "Incomplete, and not counted: celebamask_hq, Table 4.1, U-Net & ResNet-34 (lacks Ours); "
        "cityscapes, Table 4.2, U-Net & ResNet-50; "
    ) in caption


def test_convergence_is_the_first_epoch_at_the_threshold(tmp_path):
    group(tmp_path)
    sheet = sheets(tmp_path, threshold=0.6)["nuclei_4.9"]
    texts = [sheet.show("measured")["4.1/42", loss].text for loss in LOSSES]
    assert texts == ["2", "3", "3", "-", "-", "2"]
    assert [sheet.show("measured")["4.1/42", loss].bold for loss in LOSSES] == [
        True, False, False, False, False, True,
    ]  # fmt: skip
    default = sheets(tmp_path)["nuclei_4.9"]  # 0.9 * 0.95, rounded down
    assert "bIoU of 0.85" in default.title


def test_each_convention_reads_its_own_numbers(tmp_path):
    make_run(tmp_path, loss="dist", biou=0.5, narrow=0.3, last=0.4, curve=(0.1, 0.5))
    key = ("dist", "nuclei:biou")

    def value(**convention):
        return sheets(tmp_path, **convention)["nuclei_4.1"].cells[key].measured

    assert value() == pytest.approx(0.45)
    assert value(ratio=0.005) == pytest.approx(0.25)
    assert value(epoch="last") == pytest.approx(0.35)
    dice = ("dist", "nuclei:dice")
    one = sheets(tmp_path, aggregation="image")["nuclei_4.1"].cells[dice].measured
    assert one == pytest.approx((1.6 / 1.8 + 1.4 / 1.7) / 2)  # J 0.8 and 0.7
    for convention, epoch in (({}, "-"), ({"aggregation": "image"}, "2"), ({"ratio": 0.005}, "-")):
        found = sheets(tmp_path, threshold=0.55, **convention)["nuclei_4.9"]
        assert found.show("measured")["4.1/42", "dist"].text == epoch


def test_a_ratio_that_was_not_counted_is_an_error_that_names_the_run(tmp_path):
    make_run(tmp_path)
    with pytest.raises(RunError, match=r"nuclei-unet.*0\.1.*--boundary-ratio"):
        sheets(tmp_path, ratio=0.1)


def test_a_published_cell_is_that_of_its_seed_and_noise_is_over_seeds(tmp_path):
    for seed, biou in ((42, 0.60), (1, 0.62), (2, 0.64)):
        make_run(tmp_path, dataset="cityscapes", loss="dist", seed=seed, biou=biou)
    cell = sheets(tmp_path)["4.1"].cells["dist", "cityscapes:biou"]
    assert cell.measured == pytest.approx(0.55)
    assert cell.noise == pytest.approx(0.02)  # of 0.55, 0.57, 0.59 with ddof 1
    shown = sheets(tmp_path)["4.1"].show("compared")["dist", "cityscapes:biou"]
    assert shown.text == "0.5777 / 0.5500 / -0.0277 within noise"


def test_another_data_set_shows_mean_and_deviation_over_seeds(tmp_path):
    for seed, biou in ((42, 0.60), (7, 0.64)):
        make_run(tmp_path, loss="dist", seed=seed, biou=biou)
    sheet = sheets(tmp_path)["nuclei_4.1"]
    assert sheet.show("measured")["dist", "nuclei:biou"].text == "0.5700 +- 0.0283"
    assert "2 (7, 42)" in sheet.caption("measured")
    assert "## Published" not in render.markdown(sheet)


def test_folds_fill_the_appendix_and_table_4_11(tmp_path):
    for fold in range(1, 6):
        kwargs = {"dataset": "celebamask_hq", "encoder": "resnet50", "loss": "iou"}
        make_run(tmp_path, fold=fold, biou=0.70 + 0.01 * fold, **kwargs)
    found = sheets(tmp_path)
    assert found["A.2"].cells["fold3", "biou"].measured == pytest.approx(0.68)
    assert found["A.2"].cells["avg", "biou"].measured == pytest.approx(0.68)
    for name in ("A.2", "4.11"):
        assert "No mark of what cannot be told from the best: each fold" in (
            found[name].caption("measured")
        )
    assert found["4.11"].cells["iou", "biou:std"].measured == pytest.approx(0.0158113883)
    assert found["4.2"].cells["iou", "celebamask_hq:biou"].measured is None  # a fold is no such run


def test_four_folds_give_no_average(tmp_path):
    for fold in range(1, 5):
        make_run(tmp_path, dataset="celebamask_hq", encoder="resnet50", loss="iou", fold=fold)
    found = sheets(tmp_path)["A.2"].cells
    assert found["fold4", "biou"].measured is not None
    assert found["avg", "biou"].measured is None
    assert found["std", "biou"].measured is None


def test_one_protocol_fills_a_table_and_the_caption_counts_the_others(tmp_path):
    make_run(tmp_path, loss="ce", biou=0.6)
    make_run(tmp_path, loss="dist", biou=0.6)
    make_run(tmp_path, loss="ce", biou=0.9, lr=1e-2)
    sheet = sheets(tmp_path)["nuclei_4.1"]
    assert sheet.cells["ce", "nuclei:biou"].measured == pytest.approx(0.55)
    assert "1 further runs on nuclei" in sheet.caption("measured")


@pytest.mark.parametrize("order", range(3))
def test_of_two_runs_of_one_cell_the_first_by_name_is_shown(tmp_path, order):
    for alpha, biou in enumerate((0.6, 0.7, 0.8)):
        make_run(tmp_path, loss="dist", alpha=alpha, biou=biou)
    sheet = sheets(tmp_path, order=order)["nuclei_4.1"]
    assert sheet.cells["dist", "nuclei:biou"].measured == pytest.approx(0.55)
    assert "2 further runs on nuclei" in sheet.caption("measured")


def test_the_order_of_runs_and_of_rows_changes_nothing(tmp_path):
    group(tmp_path / "one", classes=2)
    group(tmp_path / "two", classes=2, shuffled=True)
    texts = [
        {name: render.markdown(s) + render.tidy_csv(s) for name, s in found.items()}
        for found in (sheets(tmp_path / "one"), sheets(tmp_path / "two", order=3))
    ]
    assert texts[0] == texts[1]


def test_a_loss_of_ones_own_stands_beside_the_six_on_other_data(tmp_path):
    group(tmp_path)
    make_run(tmp_path, loss="mine", biou=0.6, curve=(0.1, 0.2, 0.3))
    found = sheets(tmp_path)
    shown = found["nuclei_4.1"].show("measured")
    assert list(found["nuclei_4.1"].rows) == [*LOSSES, "mine"]
    assert shown["mine", "nuclei:biou"].bold
    assert ("mine", "nuclei:superiority_biou") not in shown
    assert "| mine |" in render.markdown(found["nuclei_4.1"])
    assert "mine" in render.latex(found["nuclei_4.1"])
    assert "mine" in render.tidy_csv(found["nuclei_4.1"])
    wins = found["nuclei_4.7"].show("measured")
    assert wins["mine", "nuclei:biou"].text == "1"
    assert wins["dist", "nuclei:biou"].text == "0"
    assert all("mine" not in found[name].rows for name in ("4.1", "4.7"))
