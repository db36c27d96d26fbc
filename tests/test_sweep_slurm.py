"""hydra/launcher=slurm against a SLURM of shell scripts; tests/slurm has a real one."""

import os
import signal
import sys

import pytest
from hydra.core.plugins import Plugins
from hydra.utils import get_class
from omegaconf import OmegaConf

from seglab import launchers  # noqa: F401 - shows Hydra our launchers
from seglab.errors import RunError
from seglab.launchers.sweep import KILLED
from tests.conftest import ROOT

PROGRAMS = {
    # each element of the array is a process; its id stands in a file of the job's name
    "sbatch": """
        last=$(sed -n 's/^#SBATCH --array=0-\\([0-9]*\\).*/\\1/p' "$1")
        out=$(sed -n 's/^#SBATCH --output=//p' "$1")
        for i in $(seq 0 "$last"); do
            echo "export SLURM_JOB_ID=$i SLURM_ARRAY_JOB_ID=7 SLURM_ARRAY_TASK_ID=$i SLURM_NTASKS=1
                exec bash $1" > "$SLURM/7_$i.sh"
            bash "$SLURM/7_$i.sh" >"$SLURM/7_$i.out" 2>&1 & echo $! > "$SLURM/7_$i.pid"
        done
        echo Submitted batch job 7""",
    "srun": 'shift 4; exec "$@"',
    "squeue": 'cd "$SLURM"; for p in *.pid; do kill -0 $(cat $p) && echo ${p%.pid}; done; true',
    # as in a real requeue, whatever the job has started is told to end
    "scontrol": 'bash "$SLURM/$2.sh" >"$SLURM/$2.again" 2>&1 & echo $! > "$SLURM/$2.pid"; kill $$',
}
TRAIN = """
import os, signal, sys
from pathlib import Path
assert "SLURM_NTASKS" not in os.environ, "Lightning would take SLURM's world for its own"
(what,) = sys.argv[1:]
if what.isdecimal():
    sys.exit(int(what))
if what == "killed":
    os.kill(os.getppid(), signal.SIGKILL)
stopped = Path(__file__).with_name("stopped")
if what == "preempted" and not stopped.exists():
    def stop(*_):
        stopped.touch()
        sys.exit(143)
    signal.signal(signal.SIGTERM, stop)
    os.kill(os.getpid(), signal.SIGUSR2)  # it may come to the whole group
    os.kill(os.getppid(), signal.SIGUSR2)
    signal.pause()
"""


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    """A launcher that finds scripts where it looks for SLURM, and a script in train.py's place."""
    for name, text in PROGRAMS.items():
        (tmp_path / name).write_text(f"#!/bin/bash\n{text}\n")
        (tmp_path / name).chmod(0o755)
    (tmp_path / "train.py").write_text(TRAIN)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("SLURM", str(tmp_path))
    monkeypatch.setattr(sys, "argv", [str(tmp_path / "train.py")])
    made = launcher(tmp_path)
    monkeypatch.setattr(sys.modules[type(made).__module__], "LOOK_EVERY_SECONDS", 1)
    return made


def launcher(tmp_path, **keys):
    Plugins.instance()
    values = OmegaConf.load(ROOT / "configs/hydra/launcher/slurm.yaml")
    values.folder = str(tmp_path / "logs")
    made = get_class(values.pop("_target_"))(**{**values, **keys})
    made.options, made.results = [], tmp_path
    return made


def test_each_job_ends_with_the_exit_code_of_its_command(slurm, tmp_path):
    with pytest.raises(RunError) as failed:
        slurm.launch([["0"], ["3"], ["killed"], ["preempted"]], 0)
    lines = str(failed.value).splitlines()
    assert lines[0] == "2 of 4 jobs failed:"
    assert [line for line in lines if "exit code" in line] == [
        "  exit code 3: 3",
        f"  exit code {KILLED}: killed",
    ]
    assert lines[2].endswith("7_1_0_log.out")
    assert "Traceback" not in (tmp_path / "7_3.out").read_text()


def test_a_job_that_is_out_of_time_too_often_has_failed(slurm, tmp_path):
    assert slurm is not None
    short = launcher(tmp_path, timeout_min=1, max_timeouts=0)
    with pytest.raises(RunError, match=f"exit code {KILLED}: preempted"):
        short.launch([["preempted"], ["0"]], 0)


def test_a_machine_without_slurm_is_said(slurm, monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(RunError, match="this machine has no sbatch"):
        slurm.launch([["0"]], 0)


def test_a_python_without_submitit_is_said(slurm, monkeypatch):
    monkeypatch.setitem(sys.modules, "submitit", None)
    with pytest.raises(RunError, match=r"package submitit is not installed. pip install 'seglab"):
        slurm.launch([["0"]], 0)


def test_what_sbatch_refuses_is_said(slurm, tmp_path):
    (tmp_path / "sbatch").write_text("#!/bin/bash\necho invalid partition: gpuu >&2; exit 1")
    with pytest.raises(RunError, match=r"invalid partition: gpuu\. Mend the keys"):
        slurm.launch([["0"]], 0)


def test_a_key_of_the_wrong_type_is_said(slurm, tmp_path):
    assert slurm is not None
    with pytest.raises(RunError, match="timeout_min.*expected type"):
        launcher(tmp_path, timeout_min="long").launch([["0"]], 0)


def test_a_training_that_slurm_tells_to_end_does_not_end_the_job(monkeypatch, tmp_path):
    """An exit of its own would count as the job's, and nothing would requeue it."""
    from seglab.launchers.slurm_task import Task

    class Killed(BaseException):
        pass

    def killed():
        raise Killed

    handler = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(signal, "pause", killed)
    code = "import os, signal; os.kill(os.getppid(), signal.SIGTERM); signal.pause()"
    try:
        with pytest.raises(Killed):
            Task([sys.executable, "-c", code], tmp_path)()
    finally:
        signal.signal(signal.SIGTERM, handler)
