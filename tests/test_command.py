"""train.py and the scripts as a user starts them: in processes of their own."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time

import pandas as pd
import pytest
import torch

from seglab import record, reload, store
from seglab.metrics import region_counts
from tests.conftest import ROOT, TINY
from tests.test_training import assert_same_numbers

KILLS = int(os.environ.get("SEGLAB_KILLS", "3"))  # the long form: SEGLAB_KILLS=10


def command(script, *arguments, **environment):
    return subprocess.run(
        [sys.executable, str(ROOT / script), *arguments],
        cwd=ROOT, env={**os.environ, **environment}, capture_output=True, text=True, check=False,
        timeout=300,
    )  # fmt: skip


def train(results, *overrides, **environment):
    return command("train.py", *TINY, f"results_dir='{results}'", *overrides, **environment)


def only_run(results):
    (run,) = store.finished_runs(results)
    return run


@pytest.mark.parametrize(
    ("overrides", "word"),
    [
        (["loss=dst"], "Did you mean dist?"),
        (["trainr.epochs=3"], "trainr.epochs: there is no such key"),
        (["dataset=cityscapes", "dataset.root=/nowhere"], "leftImg8bit"),
        (["loss._target_=os.system"], "package os"),
        (["trainer.batch_size=7"], "the training split has 6 images"),
    ],
)
def test_a_mistake_is_one_message_without_a_traceback(tmp_path, overrides, word):
    kept = [item for item in TINY if not (overrides[0].startswith("dataset=") and "shapes" in item)]
    kept = [
        item for item in kept if not (overrides[0].startswith("dataset=") and "dataset." in item)
    ]
    done = command("train.py", *kept, f"results_dir='{tmp_path / 'r'}'", *overrides)
    assert done.returncode == 1
    assert word in done.stderr
    assert done.stderr.splitlines()[0 if "batch" not in overrides[0] else -1].startswith("Error: ")
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "r" / "runs").exists()


def test_one_command_leaves_a_run_and_wandb_beside_it(tmp_path):
    done = train(tmp_path, "loss=dist", "logger=wandb", "trainer=debug", "trainer.accelerator=cpu")
    assert done.returncode == 0, done.stderr
    run = only_run(tmp_path)
    assert run.record["tracker"] == "wandb offline"
    assert list((run.folder / "wandb").glob("offline-run-*/*.wandb"))
    assert run.record["run_id"] in done.stderr


def test_a_run_killed_at_random_moments_ends_like_an_unbroken_one(tmp_path):
    """Kill -9, the same command again, and again."""
    overrides = ("model=deeplabv3plus", "trainer.epochs=6", "loss=dist")
    assert train(tmp_path / "whole", *overrides).returncode == 0
    began = time.monotonic()
    assert train(tmp_path / "timed", *overrides).returncode == 0
    duration = time.monotonic() - began
    moments = random.Random(20240501)
    killed = 0
    while killed < KILLS:
        process = subprocess.Popen(
            [sys.executable, str(ROOT / "train.py"), *TINY, *overrides,
             f"results_dir='{tmp_path / 'cut'}'"],
            cwd=ROOT, stderr=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        try:
            process.wait(moments.uniform(0.2, 0.95) * duration)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            killed += 1
            continue
        if killed:
            break  # it came to its end between two kills
        shutil.rmtree(tmp_path / "cut")  # the machine was busier when the time was taken
        duration /= 2
    done = train(tmp_path / "cut", *overrides)
    assert done.returncode == 0, done.stderr
    assert_same_numbers(only_run(tmp_path / "cut").folder, only_run(tmp_path / "whole").folder)


@pytest.mark.parametrize(("signal_", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_run_that_is_told_to_stop_says_so_and_can_go_on(tmp_path, signal_, code):
    arguments = [*TINY, "trainer.epochs=200", "loss=ce", f"results_dir='{tmp_path}'"]
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "train.py"), *arguments],
        cwd=ROOT, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    deadline = time.monotonic() + 120
    while not list(tmp_path.glob("drafts/*/last.ckpt")) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal_)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == code, errors
    assert "interrupted by" in errors
    assert "Traceback" not in errors
    (draft,) = (path for path in (tmp_path / "drafts").iterdir() if path.is_dir())
    assert record.read_record(draft)["status"] == "interrupted"


def test_two_processes_count_an_odd_number_of_images_as_one_does(tmp_path):
    """DDP over gloo: the stored counts are those that one process gets of the same weights."""
    done = train(
        tmp_path, "loss=dist", "trainer.devices=2", "trainer.batch_size=4", OMP_NUM_THREADS="1"
    )
    assert done.returncode == 0, done.stderr
    run = only_run(tmp_path)
    assert run.record["device"]["count"] == 2
    from tests.test_training import _split

    loaded = reload.load(run.folder)
    for name, images in (("val", 5), ("test", 3)):
        source, split = _split(loaded, name)
        counts = torch.tensor(run.counts("best", name))
        assert len(counts) == images
        for row, (image, mask) in enumerate(split):
            predicted = loaded.predict(torch.from_numpy(image.transpose(2, 0, 1).copy())[None])
            expected = region_counts(predicted, torch.from_numpy(mask)[None], source.num_classes)[0]
            assert torch.equal(counts[row, :, 0], expected)


def test_tables_have_every_metric_under_both_aggregations(tmp_path):
    train(tmp_path, "loss=ce", "trainer.epochs=1")
    train(tmp_path, "loss=ce", "trainer.epochs=1", "trainer.max_steps=1")
    done = command("scripts/tables.py", "--results", str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert "1 runs cut short" in done.stdout
    table = pd.read_csv(tmp_path / "tables" / "runs.csv")
    assert list(zip(table["split"], table["aggregation"], strict=True)) == [
        ("test", "dataset"), ("test", "image"), ("val", "dataset"), ("val", "image"),
    ]  # fmt: skip
    (stored,) = (run.record["scores"] for run in store.finished_runs(tmp_path) if not run.is_trial)
    for row in table.to_dict("records"):
        for metric, value in stored[row["split"]][row["aggregation"]].items():
            assert row[metric] == pytest.approx(value, abs=1e-6)
    assert (tmp_path / "tables" / "runs.md").read_text().count("\n| shapes |") == 4


def test_tables_without_runs_say_how_to_get_one(tmp_path):
    done = command("scripts/tables.py", "--results", str(tmp_path))
    assert done.returncode == 0
    assert "holds no finished run yet" in done.stdout


def test_the_data_script_checks_and_prepares(tmp_path):
    arguments = ["dataset=nuclei", f"results_dir='{tmp_path}'"]
    done = command("scripts/data.py", "check", *arguments)
    assert done.returncode == 0, done.stderr
    assert "0 faults" in done.stdout
    assert "train: 28 images" in done.stdout
    done = command("scripts/data.py", "prepare", *arguments)
    assert done.returncode == 0, done.stderr
    assert "reads the prepared arrays" in done.stdout
    done = command("scripts/data.py", "chek", *arguments)
    assert done.returncode == 1
    assert "check, prepare" in done.stderr
