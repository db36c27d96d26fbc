"""Whether a measured number agrees with a published one: the one place where that is decided."""

import math
from dataclasses import dataclass

NOISES = 2  # standard deviations within which a difference is called noise


@dataclass(frozen=True)
class Kind:
    """What sort of number a cell holds: decimals to show, and the difference that is tolerated."""

    digits: int
    tolerance: float


SCORE = Kind(digits=4, tolerance=0.005)  # a fraction of 1
PERCENT = Kind(digits=2, tolerance=0.5)
COUNT = Kind(digits=0, tolerance=0)  # of wins or epochs; an epoch never reached is inf
COMPUTED = Kind(digits=3, tolerance=0.0005)  # Table 3.1: no training, so only rounding

RULE = (
    "Verdict: reproduced where |measured - published| is at most 0.005 (0.5 for percentages, "
    "0 for counts, 0.0005 for computed losses); else within noise where it is below "
    f"{NOISES} standard deviations of the measured value over seeds or folds, if there are "
    "two or more; else contradicted."
)


def verdict(
    published: float | None, measured: float | None, noise: float | None, kind: Kind
) -> str:
    """`RULE` in code; None stands for what was not published, not run, or has no estimate."""
    if published is None:
        return "not published"
    if measured is None:
        return "not run"
    gap = abs(difference(published, measured))
    if gap <= kind.tolerance + 1e-9:
        return "reproduced"
    if noise is not None and gap < NOISES * noise:
        return "within noise"
    return "contradicted"


def difference(published: float, measured: float) -> float:
    """measured - published; 0 where both are the same infinity."""
    return 0.0 if measured == published else measured - published


def number(text: str) -> float | None:
    """A printed number; None for an empty cell and for NaN."""
    value = float(text) if text else math.nan
    return None if math.isnan(value) else value
