"""What every launcher of ours shares: the jobs, the command line of each, and the end of a sweep.

Each job is `python train.py <overrides>` in a process of its own, wherever it runs.
"""

import itertools
import os
import signal
import sys
import time
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from seglab.errors import Busy, RunError

PAUSES_SECONDS = (10.0, 30.0, 60.0)  # before what another process is doing is looked at again
INTERRUPTED = 130  # exit code of a job that the user stopped
KILLED = 137  # of one that left none
RANKS = (  # what tells a training which of several processes it is
    "LOCAL_RANK", "RANK", "NODE_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT",
    "SLURM_NTASKS", "SLURM_PROCID",
)  # fmt: skip


@dataclass(frozen=True)
class Job:
    """One command line of a sweep, how it ended (None: not yet), and the log that is its own."""

    overrides: tuple[str, ...]
    code: int | None = None
    log: Path | None = None

    def __str__(self) -> str:
        return " ".join(self.overrides)


class SweepLauncher(Launcher):
    """Runs the jobs of a sweep, and reports.

    What another process, such as a second sweep, is doing is looked at again until it is done.
    """

    options: list[str]
    results: Path

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """Keeps --config-dir and where results go: a job composes its own configuration."""
        del hydra_context, task_function
        self.results = Path(str(config.results_dir)).expanduser().absolute()
        self.options = [
            f"--config-dir={source.path}"
            for source in config.hydra.runtime.config_sources
            if source.provider == "command-line"
        ]

    def command(self, job: Job) -> list[str]:
        """The command line of a job."""
        return [sys.executable, os.path.abspath(sys.argv[0]), *self.options, *job.overrides]

    @abstractmethod
    def run(self, jobs: list[Job]) -> list[Job]:
        """The same jobs, in their order, each with its exit code."""

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> Sequence[JobReturn]:
        """Runs every job. Errors: RunError that lists the jobs that failed."""
        del initial_job_idx
        ended = self.run([Job(tuple(overrides)) for overrides in job_overrides])
        for pause in itertools.chain((0.0,), PAUSES_SECONDS, itertools.repeat(PAUSES_SECONDS[-1])):
            busy = [job for job in ended if job.code == Busy.exit_code]
            if not busy:
                break
            if pause:  # by now another sweep would be through with what is quick
                names = "".join(f"\n  {job}" for job in busy)
                say(
                    f"sweep: waiting for {len(busy)} job(s) that another process is doing:{names}\n"
                    f"(looking again in {pause:g} s; Ctrl-C stops this sweep, not that process)"
                )
                time.sleep(pause)
            again = {job.overrides: job for job in self.run([Job(job.overrides) for job in busy])}
            ended = [again.get(job.overrides, job) for job in ended]
        failed = [job for job in ended if job.code]
        say(f"sweep: {len(ended) - len(failed)} of {len(ended)} jobs done")
        if failed:
            listed = "\n".join(_failure(job) for job in failed)
            raise RunError(
                f"{len(failed)} of {len(ended)} jobs failed:\n{listed}\n"
                f"What each said stands {'in its log' if failed[0].log else 'above'} and, if its "
                "training had begun, in its record. The same command does again what is not done."
            )
        return [
            JobReturn(overrides=job.overrides, status=JobStatus.COMPLETED, _return_value=job.code)
            for job in ended
        ]


def _failure(job: Job) -> str:
    return f"  exit code {job.code}: {job}" + (f"\n    {job.log}" if job.log else "")


def exit_code(results: Path, pid: int, code: int) -> int:
    """Of a job that has ended, as a shell gives it. One that a signal or os._exit ended could not
    write down its end: its record says it from here.

    Args:
        code: of subprocess: minus the signal where there was one.
    """
    if code == 0:
        return 0
    from seglab import record  # pandas, and part of a second, only where it is needed

    if code > 0:
        record.note_death(results, pid, f"exited with code {code}, and said no more")
        return code
    name = signal.Signals(-code).name
    memory = ", by hand or for want of memory" if name == "SIGKILL" else ""
    record.note_death(results, pid, f"killed by {name}{memory}")
    return 128 - code


def environment() -> dict[str, str]:
    """This process's, without what another training, or SLURM, has said of ranks."""
    return {key: value for key, value in os.environ.items() if key not in RANKS}


def say(message: str) -> None:
    """To the user."""
    sys.stderr.write(message + "\n")
    sys.stderr.flush()
