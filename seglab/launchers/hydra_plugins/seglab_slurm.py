"""hydra/launcher=slurm: the jobs of a sweep as one array of SLURM jobs, through submitit.

Each is the command line that the local launcher would start, so it does nothing else, and what is
requeued goes on from its last whole epoch. This process waits for all of them and reports. If it
is stopped the jobs go on, and the same command later finds what is finished.
"""

import shutil
import subprocess
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from seglab.errors import RunError
from seglab.launchers.sweep import KILLED, Job, SweepLauncher, say

if TYPE_CHECKING:
    import submitit

LOOK_EVERY_SECONDS = 5


class SlurmLauncher(SweepLauncher):
    """Runs the jobs of a sweep on a cluster, each on one node.

    Args:
        folder: where submitit keeps its files and the jobs' logs; seen by every node.
        parallel: jobs at a time, at most.
        partition: null is the cluster's default.
        timeout_min: minutes until a job is stopped and requeued.
        max_timeouts: how often a job is requeued for that before it is given up.
        mem_gb: main memory of a job in GB; null is the cluster's default.
        cpus_per_task: cores of a job.
        gpus_per_node: GPUs of a job; null asks for none.
        setup: shell lines to run before a job.
        additional_parameters: further options of sbatch, such as {account: vision}.
    """

    def __init__(
        self,
        folder: str,
        parallel: int,
        partition: str | None,
        timeout_min: int,
        max_timeouts: int,
        mem_gb: float | None,
        cpus_per_task: int,
        gpus_per_node: int | None,
        setup: Sequence[str],
        additional_parameters: dict[str, Any],
    ) -> None:
        super().__init__()
        self.folder, self.max_timeouts = folder, max_timeouts
        self.parameters = {
            "name": "seglab",
            "timeout_min": timeout_min,
            "mem_gb": mem_gb,
            "cpus_per_task": cpus_per_task,
            "gpus_per_node": gpus_per_node,
            "stderr_to_stdout": True,
            "slurm_partition": partition,
            "slurm_array_parallelism": parallel,
            "slurm_setup": list(setup),
            # srun has not inherited this from sbatch since SLURM 22.05
            "slurm_srun_args": [f"--cpus-per-task={cpus_per_task}"],
            "slurm_additional_parameters": {"requeue": True, **additional_parameters},
        }

    def run(self, jobs: list[Job]) -> list[Job]:
        """The same jobs, in their order, each with its exit code and its log."""
        submitted = self._submit(jobs)
        for job, slurm in zip(jobs, submitted, strict=True):
            say(f"sweep: SLURM job {slurm.job_id}: {job}")
        try:
            wait(submitted)
        except KeyboardInterrupt:
            array = submitted[0].job_id.split("_")[0]
            say(f"The jobs go on. `scancel {array}` stops them.")
            raise
        return [
            Job(job.overrides, exit_code(slurm), slurm.paths.stdout)
            for job, slurm in zip(jobs, submitted, strict=True)
        ]

    def _submit(self, jobs: list[Job]) -> "list[submitit.Job[int]]":
        if shutil.which("sbatch") is None or shutil.which("srun") is None:
            raise RunError(
                "hydra/launcher=slurm: this machine has no sbatch and srun. Start the sweep on a "
                "machine that can submit SLURM jobs, or take hydra/launcher=local."
            )
        try:
            import submitit  # an extra: nothing else of ours needs it

            from seglab.launchers.slurm_task import Task
        except ModuleNotFoundError as error:
            raise RunError(
                f"hydra/launcher=slurm: the Python package {error.name} is not installed. "
                "pip install 'seglab[slurm]', in a clone: pip install -e '.[slurm]'."
            ) from None
        try:
            executor = submitit.AutoExecutor(
                self.folder, cluster="slurm", slurm_max_num_timeout=self.max_timeouts
            )
            executor.update_parameters(**self.parameters)
            return executor.submit_array([Task(self.command(job), self.results) for job in jobs])
        except (AssertionError, submitit.core.utils.FailedJobError) as error:
            raise RunError(
                f"hydra/launcher=slurm: the jobs cannot be submitted: {error}. "
                "Mend the keys of hydra.launcher, see configs/hydra/launcher/slurm.yaml."
            ) from None


def wait(jobs: "Sequence[submitit.Job[int]]") -> None:
    """Until every job has left its result, or has left the queue without one."""
    gone: set[str] = set()
    while True:
        waiting = [job for job in jobs if not job.paths.result_pickle.exists()]
        waiting = [job for job in waiting if job.job_id not in gone]
        if not waiting:
            return
        listed = queue()
        time.sleep(LOOK_EVERY_SECONDS)  # a result may reach this machine later than the queue does
        if listed is not None:
            gone |= {job.job_id for job in waiting} - listed


def queue() -> set[str] | None:
    """Ids of this user's jobs that wait or run; None where SLURM does not answer just now.

    Not by sacct, as submitit asks: it knows nothing where the cluster keeps no accounts.
    """
    asked = subprocess.run(
        ["squeue", "--me", "--array", "--noheader", "--format=%i"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    return set(asked.stdout.split()) if asked.returncode == 0 else None


def exit_code(job: "submitit.Job[int]") -> int:
    """Of the job's command; KILLED where SLURM or submitit ended the job."""
    if not job.paths.result_pickle.exists() or job.exception() is not None:
        return KILLED
    return job.result()
