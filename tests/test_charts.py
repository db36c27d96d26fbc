"""Charts of groups of runs: what is drawn, what stands beside it, and that nothing overlaps."""

import importlib.util
import sys
from dataclasses import replace
from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from seglab import charts, store
from seglab.errors import RunError
from seglab.tables.measured import Cellname, Measured
from seglab.tables.published import LOSSES, OURS, read
from seglab.tables.readings import Convention, read_runs
from tests.conftest import ROOT
from tests.tables.runs import make_run

PUBLISHED = read(ROOT / "results" / "published")
CONVENTION = Convention("dataset", 0.02, "best")
FACES = {"dataset": "celebamask_hq", "model": "deeplabv3plus", "encoder": "resnet50"}
GROUP = Cellname(**FACES, loss="", seed=42)
FIGURES = ("convergence", "memory", "run_time")


def measured_of(results):
    readings, damaged = read_runs(store.finished_runs(results), CONVENTION)
    assert not damaged
    return Measured(readings, CONVENTION)


def written(results, most=charts.MOST):
    """What `write` says, and the files it wrote."""
    folder = results / "figures"
    said, damaged = charts.write(measured_of(results), PUBLISHED, folder, None, most)
    assert not damaged
    return said, sorted(folder.glob("*")) if folder.exists() else []


def taken(results):
    """loss -> run, loss -> epochs.csv."""
    runs = {run.record["choices"]["loss"]: run for run in store.finished_runs(results)}
    return runs, {loss: charts.epochs_of(run) for loss, run in runs.items()}


def memory_of(results, group=GROUP):
    runs, epochs = taken(results)
    return charts.memory_figure(group, runs, epochs, PUBLISHED, charts.looks_of(runs))


def legend_of(figure):
    (legend,) = figure.legends
    return [text.get_text() for text in legend.get_texts()]


def note_of(figure):
    return " ".join(text.get_text().replace("\n", " ") for text in figure.texts)


def levels(axes):
    """Where a line crosses the whole of the axes."""
    return [line.get_ydata()[0] for line in axes.lines if list(line.get_xdata()) == [0, 1]]


def test_a_group_is_two_losses_or_more_that_share_all_else(tmp_path):
    for loss in ("tversky", "dist", "ce"):
        make_run(tmp_path, loss=loss, seed=7)
    for loss in ("ce", "dist"):
        make_run(tmp_path, loss=loss, seed=1)
        make_run(tmp_path, loss=loss, seed=7, fold=1)
    make_run(tmp_path, loss="ce", encoder="resnet50")
    found = charts.groups(measured_of(tmp_path))
    assert [(group.seed, group.fold) for group in found] == [(1, None), (7, None)]
    assert [[name.loss for name in names] for names in found.values()] == [
        ["ce", "dist"],
        ["ce", "dist", "tversky"],
    ]


def test_losses_differ_in_dash_and_in_colour_and_ours_is_the_thickest():
    looks = charts.looks_of(LOSSES)
    assert set(LOSSES) < set(looks)
    for one, other in combinations(looks.values(), 2):
        assert (one.dash, one.width) != (other.dash, other.width)
        assert one.colour != other.colour
    assert all(looks[OURS].width > looks[loss].width for loss in looks if loss != OURS)


def test_another_loss_looks_the_same_in_any_company():
    others = ("lovasz", "tversky", "my.loss", "c")
    together = charts.looks_of([*LOSSES, *others])
    assert len(set(together.values())) == len(together)
    assert {loss: charts.looks_of([loss])[loss] for loss in others} == {
        loss: together[loss] for loss in others
    }
    many = charts.looks_of(f"loss_{i}" for i in range(25))
    assert len(set(many.values())) == len(many)


def test_a_curve_is_marked_where_it_reaches_the_published_threshold():
    curves = {
        "ce": pd.Series([0.9, 0.1, 0.73], index=[3, 1, 2]),  # in any order
        "dist": pd.Series([0.5, 0.6, 0.71], index=[1, 2, 3]),
    }
    looks = charts.looks_of(curves)
    figure = charts.convergence_figure(GROUP, curves, 0.72, CONVENTION, looks)
    (axes,) = figure.axes
    drawn = {line.get_color(): line for line in axes.lines if len(line.get_xdata()) == 3}
    assert list(drawn[looks["ce"].colour].get_xdata()) == [1, 2, 3]
    assert list(drawn[looks["ce"].colour].get_ydata()) == [0.1, 0.73, 0.9]
    (mark,) = (line for line in axes.lines if line.get_marker() == "o")
    assert (mark.get_xdata()[0], mark.get_ydata()[0]) == (2, 0.73)
    assert levels(axes) == [0.72]
    assert legend_of(figure) == ["Cross-Entropy: epoch 2", "Ours: never"]
    for part in ("CelebAMask-HQ, DeepLabv3+ & ResNet-50, seed 42", "0.72 of Table 4.9",
                 "Aggregation dataset, boundary band 0.02"):  # fmt: skip
        assert part in note_of(figure)


def test_the_threshold_is_that_of_the_table(tmp_path, monkeypatch):
    for dataset in ("nuclei", "celebamask_hq"):
        make_run(tmp_path / dataset, dataset=dataset, loss="ce", curve=(0.1, 0.95))
        make_run(tmp_path / dataset, dataset=dataset, loss="dist", curve=(0.1, 0.7))
    drawn = []
    monkeypatch.setattr(charts, "save", lambda figure, path: drawn.append((path, figure)))
    for dataset, given in (("nuclei", None), ("nuclei", 0.6), ("celebamask_hq", 0.6)):
        charts.write(measured_of(tmp_path / dataset), PUBLISHED, tmp_path, given, 1)
    curves = [figure for path, figure in drawn if path.endswith("convergence")]
    assert [levels(figure.axes[0]) for figure in curves] == [[0.85], [0.6], [0.72]]
    assert ["Table 4.9" in note_of(figure) for figure in curves] == [False, False, True]


def test_memory_stands_over_the_time_of_training_and_validation(tmp_path):
    # three epochs of 3 s + 1 s; the first takes 0.01 less: 24 %, 25 %, 25 %
    make_run(tmp_path, loss="ce", curve=(0.1, 0.2, 0.3), seconds=3.0, share=0.25, shuffled=True)
    (run,) = store.finished_runs(tmp_path)
    share = charts.memory_over_time(run.epochs())
    assert list(share.index) == [4, 8, 12]
    assert list(share) == pytest.approx([24, 25, 25])
    figure = memory_of(tmp_path, replace(GROUP, dataset="nuclei"))
    (axes,) = figure.axes
    (line,) = axes.lines
    assert list(line.get_xdata()) == [0, 4, 8, 12]
    assert list(line.get_ydata()) == pytest.approx([24, 24, 25, 25])  # a step ends at its epoch
    assert line.get_drawstyle() == "steps-pre"
    assert axes.get_xlabel().endswith("(s)")
    assert legend_of(figure) == ["Cross-Entropy: 25.00 %, 1.0 GiB"]


def test_the_axis_says_what_memory_was_counted(tmp_path):
    for device, kind in (("cpu", "resident"), ("Tesla T4", "allocated on the GPU")):
        make_run(tmp_path / device, **FACES, device=device)
        figure = memory_of(tmp_path / device)
        assert figure.axes[0].get_ylabel() == f"{kind} (% of all)"
        assert f"Device: {device}" in note_of(figure)
    assert "libraries and data included" in note_of(memory_of(tmp_path / "cpu"))


def test_what_the_thesis_says_of_memory_is_marked_beside_a_gpus_alone(tmp_path):
    for device in ("cpu", "Tesla T4"):
        make_run(tmp_path / device, **FACES, device=device)
        figure = memory_of(tmp_path / device)
        rows = PUBLISHED["dist_thesis_gpu_memory"].set_index(["gpu", "quantity"])["value"]
        values = rows["gpu1", "allocated_memory"], rows["gpu0", "allocated_memory"]
        assert levels(figure.axes[0]) == ([] if device == "cpu" else [float(v) for v in values])
        assert f"all six losses {values[0]} % of gpu1; Ours {values[1]} % of gpu0" in note_of(
            figure
        )
    streets = Cellname("cityscapes", "unet", "resnet50", "", 42)
    assert charts.published_memory(PUBLISHED, streets) == (
        [],
        "Published (azure A100 80GB, allocated): Ours 2.4 % less than Dice.",
    )
    assert charts.published_memory(PUBLISHED, replace(streets, encoder="resnet34")) == ([], "")


def test_equal_memory_does_not_look_different(tmp_path):
    make_run(tmp_path, loss="ce", share=0.500)
    make_run(tmp_path, loss="dist", share=0.501)
    axes = memory_of(tmp_path).axes[0]
    low, high = axes.get_ylim()
    assert (50.1 - 50) / (high - low) < 0.02  # of the height


def test_the_run_time_is_that_of_the_whole_process(tmp_path):
    make_run(tmp_path, loss="ce", curve=(0.1, 0.2), seconds=3.0)
    (run,) = store.finished_runs(tmp_path)
    parts = charts.run_time(run, run.epochs())
    # 0.5 setup + 2 beside the epochs + 2 evaluate + 0.5 record
    assert list(parts.values()) == [6, 2, 5]
    resumed = {**run.record, "seconds": {**run.record["seconds"], "fit": 1.0}}
    parts = charts.run_time(replace(run, record=resumed), run.epochs())
    assert list(parts.values()) == [6, 2, 3]


def test_a_bar_ends_at_its_run_time_in_a_unit_that_is_read(tmp_path):
    make_run(tmp_path, loss="ce", curve=(0.1,) * 4, seconds=299)  # 1200 + 5 s
    make_run(tmp_path, loss="dist", curve=(0.1,) * 4, seconds=599)  # 2400 + 5 s
    runs, epochs = taken(tmp_path)
    figure = charts.run_time_figure(GROUP, runs, epochs, charts.looks_of(runs))
    (axes,) = figure.axes
    ends = [max(bar.get_x() + bar.get_width() for bar in axes.patches[row : row + 3])
            for row in (0, 3)]  # fmt: skip
    assert ends == pytest.approx([1205 / 60, 2405 / 60])
    assert [text.get_text() for text in axes.texts] == ["20.1", "40.1"]
    assert axes.get_xlabel() == "time (min)"
    names = [(text.get_text(), text.get_weight()) for text in axes.get_yticklabels()]
    assert names == [("Cross-Entropy", "normal"), ("Ours", "bold")]
    first, second = (axes.transData.transform((0, row))[1] for row in (0, 1))
    assert first > second  # from the top


def test_runs_of_two_devices_say_which(tmp_path):
    make_run(tmp_path, **FACES, loss="ce")
    make_run(tmp_path, **FACES, loss="dist", device="Tesla T4")
    figure = memory_of(tmp_path)
    assert [text.split("GiB ")[1] for text in legend_of(figure)] == ["(cpu)", "(Tesla T4)"]
    assert levels(figure.axes[0]) == []
    runs, epochs = taken(tmp_path)
    bars = charts.run_time_figure(GROUP, runs, epochs, charts.looks_of(runs))
    names = [text.get_text() for text in bars.axes[0].get_yticklabels()]
    assert names == ["Cross-Entropy (cpu)", "Ours (Tesla T4)"]


MANY = [*LOSSES, *(f"{i}_a_loss_of_a_name_that_is_too_long" for i in range(6))]


@pytest.mark.parametrize("losses", [["ce", "dist"], MANY], ids=["two", "many"])
def test_nothing_overlaps_and_nothing_is_cut_off(tmp_path, losses):
    names = {"dataset": "a_data_set_of_a_long_name", "encoder": "tu-a_long_encoder_name.in1k"}
    for i, loss in enumerate(losses):
        make_run(tmp_path, **names, loss=loss, curve=(0.1, 0.2 + 0.01 * i), seconds=4000 + i)
    runs, epochs = taken(tmp_path)
    looks = charts.looks_of(runs)
    measured = measured_of(tmp_path)
    (group,) = charts.groups(measured)
    curves = {name.loss: curve for name, curve in measured.curves.items()}
    for figure in (
        charts.convergence_figure(group, curves, 0.2, CONVENTION, looks),
        charts.memory_figure(group, runs, epochs, PUBLISHED, looks),
        charts.run_time_figure(group, runs, epochs, looks),
    ):
        figure.canvas.draw()
        title, note = (text.get_window_extent() for text in figure.texts)
        legend = figure.legends[0].get_window_extent()
        below, within = figure.axes[0].xaxis.get_tightbbox(), figure.axes[0].bbox
        order = [figure.bbox.y0, note.y0, note.y1, legend.y0, legend.y1, below.y0, within.y0,
                 within.y1, title.y0, title.y1, figure.bbox.y1]  # fmt: skip
        assert order == sorted(order)
        beside = figure.axes[0].yaxis.get_tightbbox()
        values = [text.get_window_extent() for text in figure.axes[0].texts]
        for box in (title, note, legend, beside, *values):
            assert figure.bbox.x0 <= box.x0
            assert box.x1 <= figure.bbox.x1


def test_an_undefined_curve_and_a_single_epoch_are_drawn(tmp_path):
    make_run(tmp_path, loss="ce", curve=(np.nan,))
    make_run(tmp_path, loss="dist", curve=(0.3,))
    _, files = written(tmp_path)
    assert len(files) == 6


def test_files_are_the_same_whatever_the_order_of_the_runs(tmp_path):
    for order, losses in (("a", ("ce", "dist", "tversky")), ("b", ("tversky", "dist", "ce"))):
        for loss in losses:
            make_run(tmp_path / order, loss=loss, shuffled=order == "b")
    said, first = written(tmp_path / "a")
    _, second = written(tmp_path / "b")
    stem = "nuclei-unet-resnet34-s42"
    names = [f"{stem}-{figure}.{ending}" for figure in FIGURES for ending in ("png", "svg")]
    assert [path.name for path in first] == names
    assert said.endswith("1 of 1 groups of runs drawn, as .png and .svg")
    for one, other in zip(first, second, strict=True):
        assert one.read_bytes() == other.read_bytes()
    assert "<dc:date>" not in first[1].read_text(encoding="utf-8")
    with Image.open(first[0]) as picture:
        assert picture.width == charts.WIDTH_INCHES * charts.DOTS_PER_INCH


def test_without_a_group_nothing_is_drawn_and_that_is_said(tmp_path):
    assert written(tmp_path)[1] == []
    make_run(tmp_path, loss="ce")
    said, files = written(tmp_path)
    assert said.startswith("no figure: it takes runs of two losses")
    assert files == []


def test_of_many_groups_the_lowest_seeds_are_drawn_and_the_rest_on_request(tmp_path):
    for seed in (3, 1, 2):
        for loss in ("ce", "dist"):
            make_run(tmp_path, loss=loss, seed=seed)
    said, files = written(tmp_path, most=1)
    assert {path.name.split("-")[3] for path in files} == {"s1"}
    assert "1 of 3 groups" in said
    assert said.endswith("--figures 3 draws all")
    charts.write(measured_of(tmp_path), PUBLISHED, tmp_path / "none", None, -1)
    assert not (tmp_path / "none").exists()


def test_a_run_that_lost_what_it_took_is_named(tmp_path):
    make_run(tmp_path)
    (run,) = store.finished_runs(tmp_path)
    record = {key: value for key, value in run.record.items() if key != "device"}
    run.epochs().drop(columns="seconds").to_csv(run.folder / "epochs.csv", index=False)
    with pytest.raises(RunError, match=r"nuclei-unet.*has lost seconds, device\. .*--figures 0"):
        charts.epochs_of(replace(run, record=record))
    (run.folder / "epochs.csv").write_text(",".join(sorted(charts.COLUMNS)) + "\n")
    with pytest.raises(RunError, match="has lost train, val"):
        charts.epochs_of(run)


def test_make_tables_draws(tmp_path, monkeypatch, capsys):
    for loss in ("ce", "dist"):
        make_run(tmp_path, loss=loss)
    spec = importlib.util.spec_from_file_location("tables_script", ROOT / "scripts" / "tables.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    monkeypatch.setattr(script, "table31_losses", dict)  # takes torch, and seconds
    monkeypatch.setattr(script, "every_sheet", lambda *_: [])
    monkeypatch.setattr(sys, "argv", ["tables.py", "--results", str(tmp_path)])
    script.main()
    assert "1 of 1 groups of runs drawn" in capsys.readouterr().out
    drawn = [path.name for path in (tmp_path / "tables" / "figures").iterdir()]
    assert len([name for name in drawn if name.startswith("nuclei-unet-resnet34-s42-")]) == 6
    assert len([name for name in drawn if name.endswith("-critical_difference.png")]) == 3
