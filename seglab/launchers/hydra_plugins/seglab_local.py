"""hydra/launcher=local: each job of a sweep is a process of its own.

Nothing leaks from one job to the next - seeds, process groups, environment, memory - and a job
that fails, is killed or exits takes no other with it. The sweep ends with a list of what failed.
Started again, it does what is missing: a finished run is found finished, an interrupted one goes
on. Two sweeps over one results folder share the work: a run that the other is doing is left to
it, and looked at again at the end.
"""

import os
import queue
import subprocess
import sys
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from seglab.errors import Busy, RunError


@dataclass(frozen=True)
class Job:
    """One command line of a sweep, and how it ended (None: not yet)."""

    overrides: tuple[str, ...]
    code: int | None = None

    def __str__(self) -> str:
        return " ".join(self.overrides)


class LocalLauncher(Launcher):
    """Runs the jobs of a sweep on this machine.

    Args:
        parallel: jobs at a time.
        devices: what each job may see, one entry for each job at a time ("0", "1", or "0,1" for
            jobs on several devices); null leaves the environment as it is.
    """

    def __init__(self, parallel: int, devices: Sequence[str] | None) -> None:
        super().__init__()
        self.parallel = parallel
        self.devices = [str(device) for device in devices] if devices else [None] * parallel
        if parallel < 1 or len(self.devices) != parallel:
            raise RunError(
                f"hydra.launcher.parallel={parallel}: must be at least 1, and "
                f"hydra.launcher.devices needs one entry for each, such as [0,1]."
            )

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """Nothing is kept: a job composes its own configuration."""
        del hydra_context, task_function, config

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> Sequence[JobReturn]:
        """Runs every job. Errors: RunError that lists the jobs that failed."""
        del initial_job_idx
        jobs = [Job(tuple(overrides)) for overrides in job_overrides]
        ended = self._run(jobs)
        busy = [job for job in ended if job.code == Busy.exit_code]
        if busy:  # another sweep had them: by now it is through with most
            again = {job.overrides: job for job in self._run([Job(job.overrides) for job in busy])}
            ended = [again.get(job.overrides, job) for job in ended]
        failed = [job for job in ended if job.code]
        _say(f"sweep: {len(ended) - len(failed)} of {len(ended)} jobs done")
        if failed:
            listed = "\n".join(f"  exit code {job.code}: {job}" for job in failed)
            raise RunError(
                f"{len(failed)} of {len(ended)} jobs failed:\n{listed}\n"
                "What each said stands above and in its record. "
                "The same command does again what is not done."
            )
        return [
            JobReturn(overrides=job.overrides, status=JobStatus.COMPLETED, _return_value=job.code)
            for job in ended
        ]

    def _run(self, jobs: list[Job]) -> list[Job]:
        free: queue.Queue[str | None] = queue.Queue()
        for device in self.devices:
            free.put(device)
        running: set[subprocess.Popen] = set()
        lock = threading.Lock()
        stopped = threading.Event()

        def run(numbered: tuple[int, Job]) -> Job:
            number, job = numbered
            device = free.get()
            try:
                with lock:
                    if stopped.is_set():
                        return Job(job.overrides, 130)
                    _say(f"sweep: job {number} of {len(jobs)}: {job}")
                    process = subprocess.Popen(_command(job), env=_environment(device))
                    running.add(process)
                code = process.wait()
                running.discard(process)
                return Job(job.overrides, code if code >= 0 else 128 - code)
            finally:
                free.put(device)

        with ThreadPoolExecutor(self.parallel) as pool:
            try:
                return list(pool.map(run, enumerate(jobs, start=1)))
            except BaseException:  # the sweep was told to stop: so are its jobs
                with lock:
                    stopped.set()
                    for process in running:
                        process.terminate()
                raise


def _command(job: Job) -> list[str]:
    return [sys.executable, os.path.abspath(sys.argv[0]), *job.overrides]


def _environment(device: str | None) -> dict[str, str]:
    """This process's, without what another training may have left in it."""
    foreign = ("LOCAL_RANK", "RANK", "NODE_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
    kept = {key: value for key, value in os.environ.items() if key not in foreign}
    return kept if device is None else {**kept, "CUDA_VISIBLE_DEVICES": device}


def _say(message: str) -> None:
    sys.stderr.write(message + "\n")
    sys.stderr.flush()
