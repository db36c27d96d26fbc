"""Losses added up, with weights that may change from epoch to epoch.

Bakos 2022, section 5.2.2:  L1 + alpha L2  and  (1 - alpha) L1 + alpha L2, where alpha is a constant
or a function of the epoch k = 1, 2, ...
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

REST = "rest"
ROUNDING = 1e-9  # by which decimals that add up to 1 may miss it

RULES = ("constant", "linear", "exponential", "step")


class Schedule:
    """Epoch k = 1, 2, ... -> weight, at most `highest`.

    Args:
        rule: "constant" is value; "linear" k value; "exponential" 1 - exp(-value k); "step" value
            in the first `every` epochs, and `change` more after each `every`.
        change, every: of "step"; the other rules do not look at them.

    Errors: ValueError for another rule, steps of no length, or a constant above `highest`.
    """

    def __init__(self, rule: str, value: float, change: float, every: int, highest: float) -> None:
        if rule not in RULES:
            raise ValueError(f"rule={rule}: must be one of {', '.join(RULES)}")
        if every < 1:
            raise ValueError(f"every={every}: must be at least 1")
        if rule == "constant" and value > highest:
            raise ValueError(
                f"value={value}: is above highest={highest}, which cuts it. "
                "Give a smaller value, or a larger highest"
            )
        self.rule, self.value, self.change = rule, value, change
        self.every, self.highest = every, highest

    def __call__(self, epoch: int) -> float:
        """The weight in epoch 1, 2, ..."""
        found = {
            "constant": self.value,
            "linear": epoch * self.value,
            "exponential": -math.expm1(-self.value * epoch),
            "step": self.value + self.change * ((epoch - 1) // self.every),
        }[self.rule]
        return min(found, self.highest)

    @property
    def most(self) -> float:
        """What the weight of no epoch exceeds; a rule that rises comes there, or near."""
        slope = {"constant": 0.0, "step": self.change}.get(self.rule, self.value)
        if slope <= 0:
            return self(1)
        return min(self.highest, 1.0) if self.rule == "exponential" else self.highest


class WeightedSum(nn.Module):
    """sum over the terms of weight(k) times loss.

    The engine sets the epoch before each one (`set_epoch`); before that it is the first. A term
    that has `set_epoch`, such as a sum in the sum, is told it too. Where one term takes a weight
    for each pixel, such as `Dist`, the sum takes it and hands it on, and has the term's `plane`;
    where several do, each makes its own in every call.

    Args:
        terms: name -> {"loss": a loss, "weight": a schedule, or the word "rest" for one term at
            most: 1 minus the other weights}.

    Errors: ValueError for no term, a term with other keys or another weight, two that take the
        rest, or a rest that falls below 0 in some epoch.
    """

    def __init__(self, terms: Mapping[str, Mapping[str, Any]]) -> None:
        super().__init__()
        for name, term in terms.items():
            if set(term) != {"loss", "weight"}:
                raise ValueError(f"terms.{name} has {sorted(term)}, expected loss and weight")
            if term["weight"] != REST and not callable(term["weight"]):
                raise ValueError(
                    f"terms.{name}.weight={term['weight']}: must be a schedule, or the word rest"
                )
        self.losses = nn.ModuleDict({name: term["loss"] for name, term in terms.items()})
        self.schedules: dict[str, Schedule | str] = {n: t["weight"] for n, t in terms.items()}
        self.resting = [name for name, weight in self.schedules.items() if weight == REST]
        if not terms or len(self.resting) > 1:
            raise ValueError(
                f"terms={list(terms)}: at least one, and one with weight: rest at most"
            )
        self.given = {n: s for n, s in self.schedules.items() if n not in self.resting}
        self._rest([getattr(s, "most", s(1)) for s in self.given.values()])
        self.not_promised = {
            what: why
            for loss in self.losses.values()
            for what, why in getattr(loss, "not_promised", {}).items()
        }
        lowest = [getattr(loss, "optimum", 0.0) for loss in self.losses.values()]
        self.optimum = 0.0 if all(value == 0 for value in lowest) else None
        self.epoch = 1
        weighed = [name for name, loss in self.losses.items() if hasattr(loss, "plane")]
        self.weighed = weighed[0] if len(weighed) == 1 else None
        if self.weighed is not None:
            self.plane = self.losses[self.weighed].plane

    def set_epoch(self, epoch: int) -> None:
        """1, 2, ... as in epochs.csv; handed on to the terms that ask for it."""
        self.epoch = epoch
        for loss in self.losses.values():
            if hasattr(loss, "set_epoch"):
                loss.set_epoch(epoch)

    def weights_in_use(self) -> dict[str, float]:
        """Term -> its weight in this epoch, and term_name -> that of a name inside the term."""
        found = self._of_terms()
        for term, loss in self.losses.items():
            inside = getattr(loss, "weights_in_use", dict)()
            found |= {f"{term}_{name}": weight for name, weight in inside.items()}
        return found

    def _of_terms(self) -> dict[str, float]:
        given = {name: schedule(self.epoch) for name, schedule in self.given.items()}
        rest = self._rest(list(given.values()))
        return {name: given.get(name, rest) for name in self.schedules}

    def _rest(self, given: Sequence[float]) -> float:
        """1 minus the given weights. Errors: ValueError below 0, where a term takes it."""
        rest = 1 - sum(given)
        for name in self.resting:
            if rest < -ROUNDING:
                raise ValueError(
                    f"terms.{name}.weight=rest: the other weights ({', '.join(self.given)}) reach "
                    f"{sum(given):.4g}, which leaves {rest:.4g}. Keep their sum within 1 (value, "
                    f"highest), or give {name} a schedule of its own"
                )
        return rest

    def forward(self, logits: Tensor, target: Tensor, weights: Tensor | None = None) -> Tensor:
        """logits (B, C, H, W), target (B, H, W) integers, weights (B, H, W) or None -> ().

        Args:
            weights: the `plane` of each target, for the one term that has planes; None: it makes
                them itself.
        """
        of_terms = self._of_terms()
        terms = []
        for name, loss in self.losses.items():
            given = (weights,) if weights is not None and name == self.weighed else ()
            terms.append(of_terms[name] * loss(logits, target, *given))
        return sum(terms[1:], terms[0])
