"""A sweep: every job in a process of its own, none takes another with it."""

import os
import signal
import subprocess
import sys
import time

import pytest
from hydra.core.plugins import Plugins

from seglab import record, store
from seglab.errors import RunError
from tests.conftest import ROOT, TINY


def sweep(results, *overrides):
    return subprocess.run(
        [sys.executable, str(ROOT / "train.py"), "-m", *TINY, f"results_dir='{results}'",
         "trainer.epochs=1", *overrides],
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=300,
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


def test_a_run_that_another_process_holds_is_tried_again_at_the_end(tmp_path):
    first = sweep(tmp_path, "loss=ce")
    assert first.returncode == 0, first.stderr
    (run,) = store.finished_runs(tmp_path)
    run.folder.rename(tmp_path / "aside")
    folder = record.RunFolder(tmp_path, run.record["run_id"])
    with folder.locked():
        held = sweep(tmp_path, "loss=ce")
    assert held.returncode == 1
    assert held.stderr.count("job 1 of 1") == 2
    assert "exit code 75" in held.stderr


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
