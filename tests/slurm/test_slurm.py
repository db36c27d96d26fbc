"""Real SLURM, of one node: a sweep whose jobs are requeued ends as one that nobody disturbed."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest

from seglab import store
from tests.conftest import ROOT, TINY

SCRIPT = Path(__file__).with_name("one_node.sh")
PROGRAMS = ("sbatch", "srun", "slurmctld", "slurmd", "munged")
PATH = f"{os.environ['PATH']}{os.pathsep}/usr/sbin"
MISSING = [name for name in PROGRAMS if shutil.which(name, path=PATH) is None]
SHORT = [key for key in TINY if not key.startswith("trainer.epochs")]
MEASURED = ["seconds", "images_per_second", "peak_memory_bytes", "peak_memory_share"]

pytestmark = pytest.mark.skipif(
    bool(MISSING), reason=f"no {', '.join(MISSING)} here; `make test-slurm` installs SLURM"
)


@pytest.fixture
def slurm(tmp_path):
    """The environment in which sbatch and its kin find a SLURM of the test's own."""
    folder = tmp_path / "slurm"
    try:
        started = subprocess.run([SCRIPT, "start", folder], capture_output=True, text=True)
        assert started.returncode == 0, started.stdout + started.stderr
        yield {
            **os.environ,
            "PATH": PATH,
            "SLURM_CONF": str(folder / "slurm.conf"),
            "OMP_NUM_THREADS": "1",
        }
    finally:
        subprocess.run([SCRIPT, "stop", folder], check=True, capture_output=True)


def train(results, *arguments):
    return [sys.executable, str(ROOT / "train.py"), *arguments, *SHORT, f"results_dir='{results}'"]


def finished(results):
    """epochs of the run -> the run."""
    return {run.record["epochs"]: run for run in store.finished_runs(results)}


def epochs_so_far(results, epochs):
    """Whole epochs of the unfinished run of so many."""
    for path in (results / "drafts").glob("*/epochs.csv"):
        if f"epochs: {epochs}\n" in path.with_name("config.yaml").read_text():
            return pd.read_csv(path)["epoch"].max()
    return 0


def until(condition, sweep):
    """Waits, at most as long as the sweep goes on."""
    while not condition():
        assert sweep.poll() is None
        time.sleep(0.1)


@pytest.mark.timeout(500)
def test_a_requeued_job_ends_as_one_that_nobody_disturbed(slurm, tmp_path):
    results, calm = tmp_path / "results", tmp_path / "calm"
    command = train(results, "-m", "loss=ce", "trainer.epochs=20,21,1", "hydra/launcher=slurm")
    command += ["hydra.launcher.cpus_per_task=1", "hydra.launcher.timeout_min=10"]
    with open(tmp_path / "sweep.log", "w") as log:
        sweep = subprocess.Popen(command, cwd=ROOT, env=slurm, stdout=log, stderr=log)
    try:
        until(lambda: epochs_so_far(results, 20) >= 2, sweep)
        (array,) = {line.split("_")[0] for line in squeue(slurm)}
        control(slurm, "scontrol", "requeue", f"{array}_0")  # as after a fault of the node
        until(lambda: epochs_so_far(results, 21) >= 2, sweep)
        control(slurm, "scancel", "--signal=USR2", f"{array}_1")  # as before a preemption
        assert sweep.wait(400) == 0, said(tmp_path)
    finally:
        sweep.kill()
    runs = finished(results)
    assert sorted(runs) == [1, 20, 21]
    logs = sorted((results / "sweeps").rglob("*_log.out"))
    texts = [path.read_text() for path in logs]
    for once in ("interrupted by SIGTERM", "going on from last.ckpt"):
        assert [text.count(once) for text in texts] == [1, 1, 0], said(tmp_path)
    assert not any("Traceback" in text for text in texts), said(tmp_path)
    assert "sweep: 3 of 3 jobs done" in (tmp_path / "sweep.log").read_text()
    subprocess.run(train(calm, "loss=ce", "trainer.epochs=21"), cwd=ROOT, env=slurm, check=True)
    undisturbed = finished(calm)[21]
    assert_same_numbers(runs[21], undisturbed, epochs=21)
    assert_same_numbers(runs[20], undisturbed, epochs=20)


def assert_same_numbers(run, undisturbed, epochs):
    """Every epoch once, and in each what the undisturbed run had in it."""
    found, expected = (
        pd.read_csv(folder / "epochs.csv").drop(columns=MEASURED)
        for folder in (run.folder, undisturbed.folder)
    )
    assert len(found) == 2 * epochs
    pd.testing.assert_frame_equal(found, expected[: 2 * epochs], check_exact=True)


def squeue(slurm):
    return control(slurm, "squeue", "--me", "--array", "--noheader", "--format=%i").split()


def control(slurm, *command):
    return subprocess.run(command, env=slurm, check=True, capture_output=True, text=True).stdout


def said(folder):
    """What the sweep and its jobs said, for the message of a failed test."""
    logs = [folder / "sweep.log", *sorted(folder.rglob("*_log.out"))]
    return "\n".join(f"--- {path.name}\n{path.read_text()[-3000:]}" for path in logs)
