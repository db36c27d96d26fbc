"""What SLURM runs for one job of a sweep: the local launcher's command line, and its signals.

SLURM can end a job in three ways, and each lets the run go on later from its last whole epoch:

- USR2, sent before the time-out or a preemption: the training is told to stop, writes its status,
  and submitit puts the job back into the queue.
- TERM, sent first when the job is requeued, cancelled or given a grace time: the training is told
  to stop. Which of them it is, SLURM alone knows; so the task waits to be ended, or for USR2. An
  exit of its own would count as the end of the job, and nothing would requeue it.
- KILL: nothing can be done, and nothing need be.
"""

import os
import signal
import time
from pathlib import Path
from types import FrameType

from submitit.helpers import DelayedSubmission

from seglab.launchers.sweep import environment, exit_code

STOPS_WITHIN_SECONDS = 45  # of the 90 between USR2 and the job's end; requeueing it takes some


class Task:
    """One command line, as a submitit job. Calling it returns the command's exit code."""

    def __init__(self, command: list[str], results: Path) -> None:
        self.command, self.results = command, results
        self.process: int | None = None  # its id, while it runs
        self.ending = False  # SLURM has said so

    def __call__(self) -> int:
        """Runs the command; does not return once SLURM is ending the job."""
        signal.signal(signal.SIGTERM, self._end)
        # SLURM may signal the whole process group, and USR2 would kill the training
        self.process = os.posix_spawn(
            self.command[0], self.command, environment(), setsigmask=[signal.SIGUSR2]
        )
        os.waitid(os.P_PID, self.process, os.WEXITED | os.WNOWAIT)  # a signal may still find it
        process, self.process = self.process, None
        _, status = os.waitpid(process, 0)
        while self.ending:
            signal.pause()
        return exit_code(self.results, process, os.waitstatus_to_exitcode(status))

    def checkpoint(self) -> DelayedSubmission:
        """Stops the training; the same job again is what goes on from here. For submitit."""
        # inherited by the scontrol that submitit calls next: SLURM may end it with the job
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        self._stop()
        deadline = time.monotonic() + STOPS_WITHIN_SECONDS
        while self._runs() and time.monotonic() < deadline:
            time.sleep(0.2)
        return DelayedSubmission(Task(self.command, self.results))

    def _end(self, signum: int, frame: FrameType | None) -> None:
        del signum, frame
        self.ending = True
        self._stop()

    def _runs(self) -> bool:
        how = os.WEXITED | os.WNOHANG | os.WNOWAIT
        return self.process is not None and os.waitid(os.P_PID, self.process, how) is None

    def _stop(self) -> None:
        if self.process is not None:
            os.kill(self.process, signal.SIGTERM)
