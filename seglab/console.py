"""What a run says to its user, on stderr."""

import sys

from lightning.pytorch.utilities.rank_zero import rank_zero_only


def say(message: str) -> None:
    """To the user, from the first process alone."""
    if rank_zero_only.rank == 0:
        sys.stderr.write(message + "\n")
        sys.stderr.flush()
