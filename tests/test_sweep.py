"""A sweep: every job in a process of its own, none takes another with it."""

import os
import signal
import subprocess
import sys
import time
from contextlib import ExitStack

import pytest
from hydra.core.plugins import Plugins

from seglab import record, store
from seglab.errors import RunError
from tests.conftest import ROOT, TINY


def command(results, *overrides):
    """python train.py -m ..., one epoch each."""
    return [
        sys.executable, str(ROOT / "train.py"), "-m", *TINY, f"results_dir='{results}'",
        "trainer.epochs=1", *overrides,
    ]  # fmt: skip


def sweep(results, *overrides, path=None):
    return subprocess.run(
        command(results, *overrides), cwd=ROOT, capture_output=True, text=True, check=False,
        timeout=300, env={**os.environ, **({"PYTHONPATH": str(path)} if path else {})},
    )  # fmt: skip


def test_one_job_fails_the_others_run_and_the_sweep_says_which(tmp_path):
    done = sweep(tmp_path, "loss=ce,dice", "trainer.batch_size=2,7", "hydra.launcher.parallel=2")
    assert done.returncode == 1
    assert "2 of 4 jobs failed" in done.stderr
    failed = [line for line in done.stderr.splitlines() if line.startswith("  exit code 1: ")]
    assert len(failed) == 2
    assert all("trainer.batch_size=7" in line for line in failed)
    assert "Traceback" not in done.stderr
    runs = store.finished_runs(tmp_path)
    assert sorted(run.record["choices"]["loss"] for run in runs) == ["ce", "dice"]
    again = sweep(tmp_path, "loss=ce,dice")
    assert again.returncode == 0, again.stderr
    assert again.stderr.count("is finished") == 2
    assert "sweep: 2 of 2 jobs done" in again.stderr
    assert not (ROOT / "multirun.yaml").exists()


def test_a_job_that_is_killed_has_the_reason_in_its_record(tmp_path):
    command = [sys.executable, str(ROOT / "train.py"), "-m", *TINY, f"results_dir='{tmp_path}'"]
    with subprocess.Popen(
        [*command, "loss=ce", "trainer.epochs=500"], cwd=ROOT, stderr=subprocess.PIPE, text=True
    ) as running:
        deadline = time.monotonic() + 120
        while not list(tmp_path.glob("drafts/*/last.ckpt")) and time.monotonic() < deadline:
            time.sleep(0.1)
        (folder,) = tmp_path.glob("drafts/*/")
        os.kill(record.read_record(folder)["pid"], signal.SIGKILL)
        _, said = running.communicate(timeout=60)
    assert running.returncode == 1
    assert "  exit code 137: " in said
    found = record.read_record(folder)
    assert found["status"] == "interrupted"
    assert found["reason"] == "killed by SIGKILL, by hand or for want of memory"


def test_a_run_that_another_process_holds_is_waited_for(tmp_path):
    first = sweep(tmp_path, "loss=ce")
    assert first.returncode == 0, first.stderr
    (run,) = store.finished_runs(tmp_path)
    run.folder.rename(tmp_path / "aside")
    folder = record.RunFolder(tmp_path, run.record["run_id"])
    with ExitStack() as other:
        other.enter_context(folder.locked())
        said = []
        with subprocess.Popen(
            command(tmp_path, "loss=ce"), cwd=ROOT, stderr=subprocess.PIPE, text=True
        ) as held:
            for line in held.stderr:
                said.append(line)
                if line.startswith("sweep: waiting for 1 job(s) that another process is doing"):
                    (tmp_path / "aside").rename(folder.final)  # the other process has done it
                    other.close()
    assert held.returncode == 0, said
    text = "".join(said)
    assert text.count("job 1 of 1") == 3
    assert "is finished" in text
    assert "sweep: 1 of 1 jobs done" in text


def test_two_sweeps_at_once_share_the_work(tmp_path):
    both = [
        subprocess.Popen(
            command(tmp_path, "loss=ce,dice"), cwd=ROOT, stderr=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    said = [sweep_.communicate(timeout=300)[1] for sweep_ in both]
    assert [sweep_.returncode for sweep_ in both] == [0, 0], said
    runs = store.finished_runs(tmp_path)
    assert sorted(run.record["choices"]["loss"] for run in runs) == ["ce", "dice"]
    assert not (tmp_path / "replaced").exists()  # none was done twice


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ("os._exit(3)", "exited with code 3, and said no more"),
        ("sys.exit(3)", "a module that it uses ended it with exit(3)."),
    ],
)
def test_a_job_that_exits_has_the_reason_in_its_record(tmp_path, how, reason):
    (tmp_path / "seglab_test_exits.py").write_text(
        "import os, sys\n"
        "from seglab.losses.cross_entropy import CrossEntropy\n"
        "class Exits(CrossEntropy):\n"
        "    def forward(self, logits, target):\n"
        f"        if logits.requires_grad and logits.shape[-1] > 8: {how}\n"
        "        return super().forward(logits, target)\n"
    )
    done = sweep(
        tmp_path / "r", "loss=ce", "loss._target_=seglab_test_exits.Exits",
        "allow=[seglab_test_exits]", path=tmp_path,
    )  # fmt: skip
    assert done.returncode == 1
    (draft,) = tmp_path.glob("r/drafts/*/record.json")
    found = record.read_record(draft.parent)
    assert reason in found["reason"], done.stderr


@pytest.mark.parametrize("override", ["parallel=0", "parallel=2 hydra.launcher.devices=[0]"])
def test_a_launcher_that_cannot_be_is_said(tmp_path, override):
    done = sweep(tmp_path, "loss=ce", *f"hydra.launcher.{override}".split())
    assert done.returncode == 1
    assert "hydra.launcher.parallel" in done.stderr


def test_each_visible_gpu_gets_a_job_of_its_own(tmp_path, monkeypatch):
    Plugins.instance()  # Hydra finds its launchers
    from hydra_plugins.seglab_local import LocalLauncher

    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2, GPU-5a")
    launcher = LocalLauncher(parallel=None, devices="auto")
    assert (launcher.parallel, launcher.devices) == (2, ["2", "GPU-5a"])
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    (tmp_path / "nvidia-smi").write_text("#!/bin/sh\nprintf '0\\n1\\n3\\n'")
    (tmp_path / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    assert LocalLauncher(parallel=None, devices="auto").devices == ["0", "1", "3"]
    assert LocalLauncher(parallel=None, devices=None).parallel == 1
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with pytest.raises(RunError, match="no GPU is visible here"):
        LocalLauncher(parallel=None, devices="auto")


def test_a_job_looks_where_the_sweep_looked_for_choices(tmp_path):
    (tmp_path / "loss").mkdir()
    (tmp_path / "loss" / "theirs.yaml").write_text((ROOT / "configs/loss/ce.yaml").read_text())
    done = sweep(tmp_path, "loss=theirs", "trainer.devices=0", f"--config-dir={tmp_path}")
    assert "Error: trainer.devices=0: must be at least 1." in done.stderr  # so it was composed
