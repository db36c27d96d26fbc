"""hydra/launcher=local: each job of a sweep is a process of its own.

Nothing leaks from one job to the next - seeds, process groups, environment, memory - and a job
that fails, is killed or exits takes no other with it. The sweep ends with a list of what failed.
Started again, it does what is missing: a finished run is found finished, an interrupted one goes
on. Two sweeps over one results folder share the work: a run that the other is doing is left to
it, and looked at again at the end.
"""

import os
import queue
import shutil
import subprocess
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from seglab.errors import RunError
from seglab.launchers.sweep import INTERRUPTED, Job, SweepLauncher, environment, exit_code, say


class LocalLauncher(SweepLauncher):
    """Runs the jobs of a sweep on this machine.

    Args:
        parallel: jobs at a time; null is one for each of `devices`.
        devices: what each job may see, one entry for each job at a time ("0", "1", or "0,1" for
            jobs on several devices); "auto" is one GPU each, of those that are visible here; null
            leaves the environment as it is.

    Errors: RunError where the two do not fit together, or no GPU is visible.
    """

    def __init__(self, parallel: int | None, devices: Sequence[str] | str | None) -> None:
        super().__init__()
        seen = visible_devices() if devices == "auto" else [str(d) for d in devices or ()]
        self.parallel = len(seen) or 1 if parallel is None else parallel
        self.devices: list[str | None] = [*seen] or [None] * self.parallel
        if self.parallel < 1 or len(self.devices) != self.parallel:
            raise RunError(
                f"hydra.launcher.parallel={parallel}: must be at least 1, and "
                f"hydra.launcher.devices needs one entry for each, such as [0,1]."
            )

    def run(self, jobs: list[Job]) -> list[Job]:
        """The same jobs, in their order, each with its exit code."""
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
                        return Job(job.overrides, INTERRUPTED)
                    say(f"sweep: job {number} of {len(jobs)}: {job}")
                    process = subprocess.Popen(self.command(job), env=_seeing(device))
                    running.add(process)
                code = process.wait()
                running.discard(process)
                return Job(job.overrides, exit_code(self.results, process.pid, code))
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


def visible_devices() -> list[str]:
    """The GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them.

    Asked of the environment and the driver: PyTorch would take seconds, and memory on each GPU.

    Errors: RunError where there is none.
    """
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is None and shutil.which("nvidia-smi"):
        command = ["nvidia-smi", "--query-gpu=index", "--format=csv,noheader"]
        named = ",".join(subprocess.run(command, capture_output=True, text=True).stdout.split())
    found = [device.strip() for device in (named or "").split(",") if device.strip()]
    if not found:
        raise RunError("hydra.launcher.devices=auto: no GPU is visible here. Leave it out.")
    return found


def _seeing(device: str | None) -> dict[str, str]:
    return environment() | ({} if device is None else {"CUDA_VISIBLE_DEVICES": device})
