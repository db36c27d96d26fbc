"""The benchmark script: what it writes, what it names, and that its columns agree. No timings."""

import json
import mmap
import os
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from seglab import config
from seglab.data.shapes import Shapes
from seglab.data.source import IGNORE
from tests.conftest import ROOT

sys.path.insert(0, str(ROOT / "scripts"))
import bench
import bench_measure
import bench_peers
import bench_report
import bench_runs
import bench_sections
import textbook_train
from bench_measure import Group, Known, Line, Missing, Target
from bench_sections import CLASSES, SCALES


def run_bench(*arguments):
    """python scripts/bench.py ... in a process of its own, without medpy and MONAI."""
    hide = "import sys; sys.modules['medpy'] = sys.modules['monai'] = None; import runpy; "
    hide += f"sys.path.insert(0, {str(ROOT / 'scripts')!r}); "
    hide += f"sys.argv = [{str(ROOT / 'scripts' / 'bench.py')!r}, *{list(arguments)!r}]; "
    hide += "runpy.run_path(sys.argv[0], run_name='__main__')"
    environment = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    return subprocess.run(
        [sys.executable, "-c", hide],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | environment | bench_measure.KEEPS_MEMORY,  # so that it need not restart
    )


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """One tiny run of the two cheapest sections: what it said, and its folder."""
    folder = tmp_path_factory.mktemp("bench")
    done = run_bench("--tiny", "--only", "surface,boundary", "--results", str(folder))
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout, folder


def content(folder):
    (path,) = folder.glob("*.json")
    return json.loads(path.read_text())


def rows(folder):
    return [row for section in content(folder)["sections"].values() for row in section["rows"]]


def test_the_file_says_what_was_measured_when_and_with_what(measured):
    _, folder = measured
    written = content(folder)
    assert list(folder.glob("*.json"))[0].stem == written["machine"]["slug"]
    assert written["machine"]["cores"] >= 1
    assert written["machine"]["threads"] == 1
    assert set(written["sections"]) == {"surface", "boundary"}
    for section in written["sections"].values():
        assert section["failed"] is None
        assert section["versions"]["torch"] == torch.__version__.split("+")[0]
        assert section["date"].startswith("20")
        assert section["scale"] == "tiny"
        assert section["rows"]


def test_missing_peers_are_named_everywhere(measured):
    said, folder = measured
    readme = (folder / "README.md").read_text()
    for peer, package in (("medpy", "medpy"), ("MONAI", "monai")):
        (row,) = [row for row in rows(folder) if row["peer"]["name"] == peer]
        assert row["peer"]["not_measured"] == f"{package} is not installed"
        assert row["time_ratio"] is None
        assert row["ours"]["median_ms"] > 0
        for text in (said, readme):
            assert f"not measured ({package} is not installed)" in text
            assert f"{peer} ({package} is not installed)" in text


def test_every_row_is_in_the_table_and_the_readme(measured):
    said, folder = measured
    readme = (folder / "README.md").read_text()
    for row in rows(folder):
        assert row["what"] in said
        assert row["what"] in readme
        assert row["peer"]["name"] in readme
    assert content(folder)["machine"]["name"] in readme


def test_ratios_are_those_of_the_times_beside_them(measured):
    _, folder = measured
    compared = [row for row in rows(folder) if row["time_ratio"] is not None]
    assert compared
    for row in compared:
        ours, peer = row["ours"], row["peer"]
        assert row["time_ratio"] == pytest.approx(ours["median_ms"] / peer["median_ms"])
        assert row["speed_ratio"] == pytest.approx(1 / row["time_ratio"])
        assert 0 < ours["min_ms"] <= ours["median_ms"]


def test_boundary_counts_are_the_reference_tools(measured):
    _, folder = measured
    found = [row["difference"] for row in rows(folder) if row["section"] == "boundary"]
    assert found == [0, 0]


def test_readme_alone_is_made_from_every_file(measured, tmp_path, monkeypatch):
    _, folder = measured
    written = content(folder)
    for slug, name in (("one", "Processor One"), ("two", "Processor Two")):
        machine = written["machine"] | {"slug": slug, "name": name}
        (tmp_path / f"{slug}.json").write_text(json.dumps(written | {"machine": machine}))
    monkeypatch.setattr(sys, "argv", ["bench.py", "--readme", "--results", str(tmp_path)])
    assert bench.main() == 0
    text = (tmp_path / "README.md").read_text()
    assert "## Processor One" in text
    assert "## Processor Two" in text
    assert sorted(path.name for path in tmp_path.iterdir()) == ["README.md", "one.json", "two.json"]


def test_an_unknown_section_is_refused_with_the_choices(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["bench.py", "--only", "loss,speed"])
    with pytest.raises(SystemExit):
        bench.main()
    assert "no section speed; there are loss, distance" in capsys.readouterr().err


def test_a_section_that_breaks_is_reported_and_is_an_error(monkeypatch, capsys, tmp_path):
    def broken(*_):
        raise RuntimeError("no such thing")

    monkeypatch.setattr(bench, "restart_with_environment", lambda *_: None)
    monkeypatch.setattr(bench, "prepare_process", lambda *_: None)
    monkeypatch.setitem(bench_runs.GROUPS, "train", [broken])
    monkeypatch.setattr(
        sys, "argv", ["bench.py", "--tiny", "--only", "train", "--results", str(tmp_path)]
    )
    assert bench.main() == 1
    assert "RuntimeError: no such thing" in capsys.readouterr().out
    assert content(tmp_path)["sections"]["train"]["failed"] == "RuntimeError: no such thing"
    assert "Failed: RuntimeError: no such thing" in (tmp_path / "README.md").read_text()


# ---------------------------------------------------------------- what the rows are made of


def group(**others):
    """Ours takes 10 ms for 5 items, the others 40 ms; the third is missing."""
    contenders = {
        "ours": Known((0.010, 0.012, 0.008)),
        "other": Known((0.040, 0.020, 0.060)),
        "floor": Known((0.005,)),
        "absent": Missing("absent is not installed"),
    }
    return Group(contenders, **{"lines": [], "floor": "floor", "items": 5, **others})


def row_of(line, peaks=None, **others):
    made = group(lines=[line], **others)
    seconds = {n: c.seconds for n, c in made.contenders.items() if isinstance(c, Known)}
    (row,) = bench_measure.rows_of(made, seconds, peaks or {}, "section")
    return row


def test_times_are_for_one_item_and_targets_are_judged_in_their_direction():
    targets = (
        Target("time", 0.25), Target("time", 0.24), Target("speed", 4), Target("speed", 4.1),
        Target("ms", 2.0), Target("ms", 1.9), Target("difference", 0.5), Target("difference", 0.4),
    )  # fmt: skip
    row = row_of(Line("what", "ours", "other", targets, lambda: 0.5))
    assert row["ours"] == {"name": "ours", "median_ms": 2.0, "min_ms": 1.6}
    assert row["peer"] == {"name": "other", "median_ms": 8.0, "min_ms": 4.0}
    assert row["floor_ratio"] == 2.0
    assert [target["met"] for target in row["targets"]] == [True, False] * 4


def test_memory_is_in_units_and_as_a_ratio():
    targets = Target("units", 1.5), Target("units", 1.4), Target("memory", 0.5)
    line = Line("what", "ours", "other", targets)
    row = row_of(line, {"ours": 150, "other": 300}, unit_bytes=100)
    assert (row["units"], row["peer"]["peak_units"], row["memory_ratio"]) == (1.5, 3.0, 0.5)
    assert [target["met"] for target in row["targets"]] == [True, False, True]


def test_the_peak_of_a_whole_process_is_judged_in_gib():
    targets = Target("gib", 1.5), Target("gib", 1.4)
    line = Line("what", "tables.py", "other", targets)
    made = group(lines=[line], floor=None)
    made.contenders["tables.py"] = Known((1.0,), 3 * 2**29)
    (row,) = bench_measure.rows_of(made, {"other": (1.0,), "tables.py": (1.0,)}, {}, "store")
    assert [target["met"] for target in row["targets"]] == [True, False]
    assert row["gib"] == 1.5


def test_a_target_against_a_missing_peer_is_neither_met_nor_missed():
    row = row_of(Line("what", "ours", "absent", (Target("speed", 2),), lambda: 1 / 0))
    assert row["targets"][0]["met"] is None
    said = bench_report.tally([{"rows": [row]}])
    assert said == "0 of 1 targets met.\nNot measured: absent (absent is not installed)."


def test_a_missed_target_is_named_with_what_was_reached():
    row = row_of(Line("what", "ours", "other", (Target("speed", 5), Target("speed", 3))))
    assert bench_report.tally([{"rows": [row]}]) == (
        "1 of 2 targets met.\n"
        "Missed: section, what, compared with other: >= 5 x as fast, reached 4."
    )
    assert "MISSED (4)" in bench_report.cells(row)[-1]


def test_sizes_that_no_target_speaks_of_are_not_judged():
    assert not row_of(Line("what", "ours", "other", (Target("speed", 5),)), judged=False)["targets"]


def test_contenders_take_turns():
    calls = []

    def call(name):
        calls.append(name)
        time.sleep(0.02)

    contenders = {name: (lambda name=name: call(name)) for name in "ab"}
    contenders["known"] = Known((1.0,))
    contenders["absent"] = Missing("why")
    seconds = bench_measure.timed(contenders, 3, "cpu")
    assert {name: len(values) for name, values in seconds.items()} == {"a": 3, "b": 3, "known": 1}
    order = [name for name, before in zip(calls, [None, *calls], strict=False) if name != before]
    assert order == ["a", "b"] * 4  # once to warm up, then three rounds


def test_memory_is_counted_in_a_child_beyond_what_was_there():
    size = 32 << 20
    made = group(unit_bytes=size)

    def fresh():  # of the kernel itself: an allocator may hand out what it kept of earlier tests
        array = np.frombuffer(mmap.mmap(-1, size), np.uint8)
        array[:] = 1
        return array

    there = fresh()

    def twice():
        return np.add(fresh(), fresh(), out=fresh())

    made.contenders = {"nothing": lambda: there.sum(), "twice and the sum": twice}
    peaks = bench_measure.peaks_in_children(lambda: made, lambda: made, list(made.contenders))
    assert peaks["nothing"] < 0.1 * size
    assert peaks["twice and the sum"] == pytest.approx(3 * size, rel=0.1)
    made.contenders["nothing"], little = twice, group(unit_bytes=size)
    little.contenders["nothing"] = lambda: None  # what was high before the count is forgotten
    assert (
        bench_measure.peaks_in_children(lambda: made, lambda: little, ["nothing"])["nothing"]
        < 0.1 * size
    )


def test_a_machine_without_a_gpu_is_told_so(monkeypatch, tmp_path):
    monkeypatch.setattr(bench, "restart_with_environment", lambda *_: None)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(
        sys, "argv", ["bench.py", "--device", "cuda", "--results", str(tmp_path / "none")]
    )
    with pytest.raises(SystemExit, match="this machine shows no CUDA GPU"):
        bench.main()
    assert not (tmp_path / "none").exists()


def test_a_quick_section_does_not_replace_a_full_one(tmp_path, capsys):
    where = {"slug": "machine"}
    full, quick = {"scale": "full", "rows": []}, {"scale": "quick", "rows": []}
    bench_report.keep(tmp_path, where, {"loss": full, "step": quick})
    path = bench_report.keep(tmp_path, where, {"loss": quick, "data": quick})
    written = json.loads(path.read_text())["sections"]
    assert written == {"loss": full, "step": quick, "data": quick}
    assert "keeps its section loss" in capsys.readouterr().out
    bench_report.keep(tmp_path, where, {"step": full})
    assert json.loads(path.read_text())["sections"]["step"] == full


# ---------------------------------------------------------------- what is measured on a GPU


@pytest.mark.parametrize("scale", ["full", "quick"])
def test_an_epoch_on_a_gpu_has_steps_enough_for_its_beginning_not_to_weigh(tmp_path, scale):
    read = config.read(*config.compose(bench_runs._overrides(SCALES[scale], "cuda", tmp_path)))
    assert read.trainer.batch_size == 32
    assert read.tree["dataset"]["images"]["train"] == 32 * 32
    assert read.data.prepare == "yes"  # else its loader would read files
    here = config.read(*config.compose(bench_runs._overrides(SCALES[scale], "cpu", tmp_path)))
    assert here.tree["dataset"]["images"]["train"] == SCALES[scale].train_images


def test_the_textbook_script_is_given_no_more_images_than_it_can_take(tmp_path):
    source = Shapes(1, {"train": 5, "val": 1, "test": 1}, 16, 16, 0.3, 1.0, 0, 0.0, 0.0, 5, 0)
    folder = bench_runs._as_png(source, tmp_path, 3)
    assert {kind: len(list((folder / kind).iterdir())) for kind in ("images", "masks")} == {
        "images": 3,
        "masks": 3,
    }


def test_the_memory_of_a_step_is_held_against_every_loss_of_smp(monkeypatch):
    untouched = bench_sections.training_step

    def whole(model, loss, image, truth, dtype, optimizer):
        """On a GPU autocast takes the softmax in float32; on a CPU in half, and Lovasz fails."""
        assert dtype == torch.float16
        return untouched(model, loss, image, truth, torch.float32, optimizer)

    monkeypatch.setattr(bench_sections, "training_step", whole)
    monkeypatch.setattr(bench_sections, "network", lambda *_: nn.Conv2d(3, CLASSES, 1))
    made = bench_sections.gpu_steps(replace(SCALES["tiny"], step_side=16), "cpu")
    limits = {line.peer: [target.limit for target in line.targets] for line in made.lines}
    assert limits == {
        "smp Dice": [0.85], "smp Jaccard": [1.0], "smp Focal": [1.0], "smp Lovasz": [1.0],
        "smp Tversky": [1.0], "smp SoftCrossEntropy": [1.0], "torch CE": [],
    }  # fmt: skip
    for step in made.contenders.values():
        step()


def test_the_memory_of_a_binary_loss_is_measured_in_its_logits():
    made = bench_sections.binary_losses(SCALES["tiny"], "cpu")
    assert made.unit_bytes == 2 * 32 * 32 * 4
    assert not [t for line in made.lines for t in line.targets if t.measure in ("units", "memory")]


# ---------------------------------------------------------------- the baselines are right


def test_label_maps_have_many_labels_and_some_ignored():
    labels = bench_peers.label_map(0, 512, 512, 19)
    assert labels.dtype == np.uint8
    assert 10 <= len(np.unique(labels[labels != IGNORE])) <= 19
    assert 0.03 < (labels == IGNORE).mean() < 0.1
    np.testing.assert_array_equal(labels, bench_peers.label_map(0, 512, 512, 19))


@pytest.mark.parametrize("classes", [1, 5])
def test_the_textbook_loss_is_the_one_that_seglab_computes(classes):
    from seglab.losses.dist import Dist

    torch.manual_seed(0)
    maps = [bench_peers.label_map(seed, 40, 50, max(classes, 2)) for seed in range(3)]
    target = torch.from_numpy(np.stack(maps)).long()
    logits = torch.randn(3, classes, 40, 50)
    values, gradients = [], []
    for loss in (textbook_train.DistLoss(), Dist("euclidean", "mean")):
        z = logits.clone().requires_grad_()
        value = loss(z, target)
        value.backward()
        values.append(value.detach())
        gradients.append(z.grad)
    torch.testing.assert_close(*values, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-7)
