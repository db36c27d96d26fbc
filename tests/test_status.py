"""scripts/status.py on made run folders, and one real probe."""

import json
import subprocess
import sys
from dataclasses import replace

import pytest

from seglab import config, experiment, files, record
from seglab.data import check
from seglab.status import cells, forecast, probe, shelf, show, standing
from seglab.status.cells import Place
from seglab.status.forecast import Figure
from tests.conftest import ROOT, TINY

LOSSES = ("ce", "iou", "dice", "combo", "dice_focal", "focal", "dist")
HERE = Place("cpu", "cpu", 1 << 30)


@pytest.fixture
def grid(results):
    """grid("loss=ce,dist", ...): the cells of a tiny run's command line."""

    def grid_(*overrides):
        lines = cells.command_lines([*TINY, f"results_dir='{results}'", *overrides])
        return cells.grid(lines, cells.read(lines))

    return grid_


@pytest.fixture
def checked(read):
    """checked(): from here on the data set is known."""

    def checked_():
        settings = read(*TINY)
        check.check(config.build(settings, "dataset"), settings.cache_dir)

    return checked_


@pytest.fixture
def made(results):
    """made(cell, "finished", ...) writes a run's folder and returns it."""

    def made_(cell, status, epochs=0, **kept):
        science = {**cell.science, "data": kept.pop("data", cell.science["data"])}
        id_ = replace(cell, science=science).run_id
        place = record.RunFolder(results, id_)
        folder = place.final if status == "finished" else place.draft
        values = {
            "run_id": id_,
            "status": status,
            "reason": None,
            "science": science,
            "choices": cell.choices,
            "seed": cell.seed,
            "code": record.code_in_use(),
            "device": {"kind": "cpu", "name": "cpu", "count": 1},
            "dataset": {"test_split": "test"},
            "best_epoch": 1,
            "train_seconds": 8.0,
            "seconds": {"setup": 1.0, "fit": 9.0},
            "peak_memory_bytes": 1 << 29,
        }
        record.write_record(folder, values | kept)
        rows = [
            {"epoch": epoch + 1, "split": split, "seconds": seconds}
            for epoch in range(epochs)
            for split, seconds in (("train", 3.0), ("val", 1.0))
        ]
        record.write_epochs(folder, rows)
        if status == "finished":
            for name in record.COUNTED:
                (folder / name).touch()
        return folder

    return made_


@pytest.fixture
def status(results, monkeypatch, capsys):
    """status("loss=ce,dist", "--json") -> (exit code, what it printed, its error)."""
    sys.path.insert(0, str(ROOT / "scripts"))
    try:
        import status as script
    finally:
        sys.path.remove(str(ROOT / "scripts"))

    def status_(*arguments):
        monkeypatch.setattr(sys, "argv", ["status.py", *arguments, f"results_dir='{results}'"])
        code = script.config.guarded(script.main, [])
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return status_


# ---------------------------------------------------------------- cells


def test_the_command_line_replaces_what_the_experiment_sweeps():
    lines = cells.command_lines(
        ["experiment=demo_grid", "loss=ce,dist", "model=unet", "hydra.launcher.parallel=2"]
    )
    encoders = ("resnet34", "resnet50", "mobilenet_v2")
    expected = {
        frozenset(("experiment=demo_grid", "model=unet", f"loss={loss}", f"encoder={encoder}"))
        for loss in ("ce", "dist")
        for encoder in encoders
    }
    assert len(lines) == 6
    assert set(map(frozenset, lines)) == expected


def test_a_cell_has_the_name_of_the_run_that_train_would_do(grid, tiny):
    assert grid("loss=ce")[0].run_id is None
    settings = tiny("loss=ce")
    device = experiment.choose_device(settings)
    data = experiment.open_data(settings, main=True)
    _, folder = experiment.identify(settings, device, data.fingerprint)
    (cell,) = grid("loss=ce")
    assert cell.run_id == folder.id
    assert cell.images == {"train": 6, "val": 5, "test": 3}


def test_the_data_is_unknown_where_the_data_set_is_not_here(read):
    assert cells.kept_verdict(read("dataset=cityscapes", "dataset.root=null")) is None


# ---------------------------------------------------------------- states


def test_each_state_is_told_with_its_reason(grid, checked, made, status):
    checked()
    arguments = (*TINY, f"loss={','.join(LOSSES)}", "trainer.epochs=5")
    ce, iou, dice, combo, dice_focal, focal, _ = grid(*arguments[-2:])
    made(ce, "finished")
    running = made(iou, "running", epochs=2)
    made(dice, "running", epochs=2)
    made(combo, "failed", reason="the loss is not finite")
    made(dice_focal, "finished", code={"engine.py": "of old"})
    (made(focal, "finished") / "record.json").write_text("{")
    with record.RunFolder(running.parents[1], running.name).locked():
        lock = running.with_name(f".{running.name}.lock")
        holder = lock.read_text()
        code, text, error = status(*arguments)
        found = json.loads(status(*arguments, "--json")[1])
        assert lock.read_text() == holder
    assert (code, error) == (0, "")
    assert [cell["state"] for cell in found["cells"]] == [
        "done", "running", "stopped", "failed", "stale", "damaged", "missing",
    ]  # fmt: skip
    assert text.splitlines()[2].split() == [
        "unet", "mobilenet_v2", "done", "running", "stopped", "failed", "stale", "damaged", "-",
    ]  # fmt: skip
    assert "iou, shapes, seed 42: epoch 2 of 5, 12 s left" in text  # 3 epochs of 3 + 1 seconds
    assert "dice, shapes, seed 42: epoch 2 of 5, 12 s left: it ended without a word" in text
    assert "combo, shapes, seed 42: epoch 0 of 5: the loss is not finite" in text
    assert "dice_focal, shapes, seed 42: the code that makes its numbers has changed" in text
    assert "record.json: cannot be read" in text
    assert "7 cells: 1 done, 1 running, 1 stopped, 1 failed, 1 stale, 1 damaged, 1 missing" in text


def test_a_draft_that_a_process_has_only_opened_is_running(grid, checked, results):
    checked()
    (cell,) = grid("loss=ce")
    folder = record.RunFolder(results, cell.run_id)
    folder.open_draft()
    assert standing.judge(cell, shelf.look(results)).state == "missing"
    with folder.locked():
        assert standing.judge(cell, shelf.look(results)).state == "running"


def test_a_run_on_other_data_is_stale_where_the_data_is_known(grid, checked, made, results):
    (unknown,) = grid("loss=ce")
    made(unknown, "finished", data="d" * 64)
    assert standing.judge(unknown, shelf.look(results)).state == "done"
    checked()
    (known,) = grid("loss=ce")
    judged = standing.judge(known, shelf.look(results))
    assert judged.state == "stale"
    assert "other data" in judged.why


def test_a_finished_run_stands_until_its_repetition_is_at_work(grid, checked, made, results):
    checked()
    (cell,) = grid("loss=ce")
    made(cell, "finished")
    again = made(cell, "running", epochs=1)
    assert standing.judge(cell, shelf.look(results)).state == "done"
    with record.RunFolder(results, again.name).locked():
        assert standing.judge(cell, shelf.look(results)).state == "running"


# ---------------------------------------------------------------- overview


def test_the_overview_groups_by_seed_and_protocol(grid, made, status, results):
    for cell in grid("seed=2,10", "loss=ce,dist"):
        made(cell, "finished", data="d")
    (other,) = grid("seed=10", "loss=ce", "optimizer.lr=0.5")
    made(other, "running", epochs=1, data="d")
    broken = results / "runs" / "broken"
    record.write_record(broken, {"status": "finished"})
    foreign = results / "drafts" / "foreign"
    record.write_record(foreign, {"status": "running"})
    code, text, error = status()
    assert (code, error) == (0, "")
    assert [line for line in text.splitlines() if line.startswith("shapes")] == [
        "shapes, seed 2",
        "shapes, seed 10 optimizer.lr=0.0003",
        "shapes, seed 10 optimizer.lr=0.5",
    ]
    assert "5 cells: 4 done, 1 stopped" in text
    assert json.loads(status("--json")[1])["damaged"].keys() == {str(broken), str(foreign)}
    assert f"{broken}: has lost its epochs.csv" in text
    assert f"{foreign}: does not hold what a run writes (KeyError: 'choices')" in text


def test_it_shows_an_empty_folder_and_wants_no_torch(results):
    code = "import runpy, sys; sys.argv = sys.argv[1:]\n"
    code += "try: runpy.run_path(sys.argv[0], run_name='__main__')\n"
    code += "except SystemExit as end: assert not end.code, end.code\n"
    code += "assert 'torch' not in sys.modules"
    command = [sys.executable, "-c", code, "scripts/status.py", f"results_dir='{results}'"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "no run yet" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("experiment=none",), "no configs/experiment/none.yaml"),
        (("loss=ce,none",), "no configs/loss/none.yaml"),
        (("loss",), "cannot be read as key=value"),
        (("--probe",), "--probe: needs a grid"),
        (
            ("dataset=cityscapes", "dataset.root=null", "--probe"),
            "dataset cityscapes: where is it?",
        ),
    ],
)
def test_what_cannot_be_is_refused_in_one_message(status, arguments, message):
    code, text, error = status(*arguments)
    assert (code, text) == (1, "")
    assert error.startswith("Error: ")
    assert message in error


def test_a_matrix_is_at_most_a_hundred_columns_wide_and_loses_no_cell(grid):
    (cell,) = grid("loss=ce")
    names = [f"a_rather_long_loss_{number}" for number in range(9)]
    standings = [
        standing.Standing(replace(cell, choices={**cell.choices, "loss": name}), "done")
        for name in names
    ]
    (block,) = show.blocks(standings)
    lines = show.matrix(block)
    assert max(map(len, lines)) <= show.WIDTH
    assert "\n".join(lines).count("done") == 9
    assert all(name in "\n".join(lines) for name in names)


def test_namesakes_show_the_keys_in_which_they_differ():
    named = [("dist", {"a": 1, "b": {"c": 2}}), ("dist", {"a": 1, "b": {"c": 3}}), ("ce", {"a": 2})]
    assert show.told_apart(named) == ["dist b.c=2", "dist b.c=3", "ce"]


# ---------------------------------------------------------------- forecast


def test_the_time_left_is_the_sum_of_the_medians(grid, checked, made, results):
    checked()
    ce, dist, other = grid("loss=ce,dist,iou", "trainer.epochs=4")
    more = grid("loss=ce", "seed=1,2,3", "trainer.epochs=2")
    for cell, seconds in zip(more, (10.0, 14.0, 90.0), strict=True):
        made(cell, "finished", seconds={"fit": seconds})  # 5, 7, 45 seconds an epoch
    made(dist, "interrupted", epochs=3)  # by its own epochs: one of 4 seconds
    found = shelf.look(results)
    figures = forecast.of_runs(found.all(), HERE)
    standings = [standing.judge(cell, found) for cell in (ce, dist, other, *more)]
    left = forecast.forecast(standings, figures, HERE)
    assert left.device_seconds == 4 * 7 + 4 + 4 * 7  # no run with iou: the network's median
    assert left.by_origin == {"run": 2, "own": 1}
    assert left.memory == {forecast.network_key(ce): 1 << 29}
    assert not left.unknown
    assert not left.too_large
    elsewhere = forecast.of_runs(found.all(), replace(HERE, name="another"))
    assert forecast.forecast(standings, elsewhere, HERE).unknown == [ce, other]
    twice = [replace(s, cell=replace(s.cell, processes=2)) for s in standings[1:2]]
    assert forecast.forecast(twice, [], HERE).device_seconds == 8


def test_what_is_too_large_for_the_device_is_named_and_takes_no_hours(grid, made, results):
    ce, dist = grid("loss=ce,dist")
    made(ce, "finished", data="d", code={"engine.py": "of old"}, peak_memory_bytes=2 << 30)
    found = shelf.look(results)
    standings = [standing.judge(cell, found) for cell in (ce, dist)]
    figures = forecast.of_runs(found.all(), HERE)
    left = forecast.forecast(standings, figures, HERE)
    assert left.too_large == [ce, dist]
    assert left.device_seconds == 0
    text = "\n".join(show.forecast_lines(standings, left, HERE))
    assert "unet mobilenet_v2, shapes: 2.0 GiB (200%)" in text
    assert "trainer.batch_size" in text
    roomy = forecast.forecast(standings, figures, replace(HERE, memory_bytes=3 << 30))
    assert not roomy.too_large


def test_an_answer_becomes_the_seconds_of_a_run(grid, checked):
    checked()
    (cell,) = grid("loss=ce", "trainer.epochs=10", "trainer.batch_size=4")
    # an epoch: one batch of 4 at 2 / s, 5 images judged at 10 / s; at the end twice 5 + 3 of them
    answer = probe.Answer(2.0, 10.0, 5, fixed_seconds=3.4)
    found = probe.figure(cell, answer)
    assert found.epoch_seconds == pytest.approx(2 + 0.5 + (1.6 + 3.4) / 10)
    assert probe.figure(replace(cell, images=None), answer).epoch_seconds is None


# ---------------------------------------------------------------- probe


def test_a_probe_is_measured_once_and_tells_time_and_memory(status, monkeypatch, results):
    arguments = (*TINY, "loss=ce", "seed=1,2", "trainer.epochs=50", "--probe", "--json")
    code, text, error = status(*arguments)
    assert code == 0
    assert error == "probe 1 of 1: unet mobilenet_v2 ce, shapes, seed 1\n"
    found = json.loads(text)["forecast"]
    assert found["by_origin"] == {"probe": 2}
    assert found["device_seconds"] > 0
    assert found["peak_memory_bytes"]["unet mobilenet_v2, shapes"] > 1 << 27
    assert not list((results / "runs").glob("*"))
    monkeypatch.setattr(subprocess, "run", None)
    assert status(*arguments) == (0, text, "")


@pytest.mark.parametrize(
    ("program", "kept"),
    [
        ("os.kill(os.getpid(), 9)", True),
        ("sys.exit('Error: the GPU memory does not suffice for this')", True),
        ("sys.exit('Error: no such thing')", False),
    ],
)
def test_out_of_memory_is_an_answer_and_a_fault_is_none(grid, tmp_path, program, kept):
    (cell,) = grid("loss=ce")
    train = tmp_path / "train.py"
    train.write_text(f"import os, sys\n{program}\n")
    trouble = probe.measure(cell, HERE, tmp_path, train)
    assert trouble == (None if kept else "no such thing")
    answer = probe.kept(cell, HERE, tmp_path)
    assert answer == (probe.Answer() if kept else None)
    figures = [probe.figure(cell, answer)] if answer else []
    assert forecast.fits(cell, figures, HERE) is (False if kept else None)


def test_a_lock_is_asked_and_not_taken(tmp_path):
    path = tmp_path / "lock"
    assert not files.is_locked(path)
    with files.locked(path, "x"):
        assert files.is_locked(path)
    assert not files.is_locked(path)


def test_figures_of_a_probe_yield_to_those_of_runs(grid):
    (cell,) = grid("loss=ce")
    key = forecast.network_key(cell), forecast.loss_key(cell)
    figures = [Figure(*key, 100.0, 1, "probe"), Figure(*key, 3.0, 1, "run")]
    assert forecast.cost(cell, figures) == (3.0 * cell.epochs, "run")
