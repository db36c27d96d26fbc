"""What can go wrong by the user's doing. Imports nothing of ours.

A `UserError` is printed as it is, without a traceback, and ends the program with its `exit_code`.
Its message names the file or the key, says what is wrong, and what to do. A mistake of ours
is an `assert` or any other exception, and keeps its traceback.
"""


class UserError(Exception):
    """A mistake that the user can mend."""

    exit_code = 1


class ConfigError(UserError):
    """A key, a value or a choice of the configuration."""


class DataError(UserError):
    """A data set that is missing, incomplete or faulty."""


class RunError(UserError):
    """A run that cannot start, or cannot go on."""


class Busy(RunError):
    """Another process is doing it; later may be better."""

    exit_code = 75  # EX_TEMPFAIL
