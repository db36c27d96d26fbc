"""Metrics beside IoU, Dice and bIoU, while a run trains. What the engine is handed.

    accuracy  share of the pixels with the right label; binary: both sides count, as in the
              "binary accuracy" of Keras
    ba        balanced accuracy: the mean of the recalls of the classes that occur in the truth;
              binary: of sensitivity and specificity (scikit-learn's balanced_accuracy_score)
    auc       area under the ROC curve of the scores of the foreground
    ap        average precision of the same: sum of (recall_n - recall_(n-1)) precision_n
    mahd      Bakos's modified average Hausdorff distance, in pixels (seglab.metrics.mahd)

All but mahd are pooled: over all pixels of all images together, the ignored ones left out. auc and
ap of several classes: one class against the rest, then the mean over the classes for which it is
defined. The scores are kept as counts in BINS bins, 1 MiB a class whatever the number of pixels, of
the log-odds z = log(p / (1 - p)), which do not saturate as p does: z / (1 + |z|) of one bin differ
by less than 2 / BINS, that is z by 0.00003 around 0 and by 0.004 around 10. What this can change is
bounded by `seglab.metrics.ranking.of_histogram`.

mahd: of each image and class by itself (background too, where it is a class), then the mean over
all those pairs alike in which both masks have a pixel, as the counts are averaged by `image`. Where
one of the masks is empty, the distance is infinite: such a miss has no place in a mean, so
`mahd_misses` counts them beside it. Where both are empty, there is nothing to count. No such pair
at all: NaN.
"""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from seglab.errors import ConfigError
from seglab.metrics.mahd import modified_average_hausdorff
from seglab.metrics.ranking import Ranking, of_histogram
from seglab.ops import IGNORE, compute_dtype
from seglab.scores import mean_defined

NAMES = ("ba", "auc", "ap", "mahd", "accuracy")
BINS = 1 << 16
LARGEST = 1e30  # a score beyond counts as this: infinity over infinity is nothing


class Further:
    """Adds up batch by batch on the device; `share` and `result` put the processes together.

    Args:
        num_classes: channels of the logits; 1 is a binary task.
        names: which, out of NAMES. What is not named is not computed.

    Errors: ConfigError for another name.
    """

    def __init__(self, num_classes: int, names: list[str]) -> None:
        unknown = [name for name in names if name not in NAMES]
        if unknown:
            raise ConfigError(
                f"metrics.further={list(names)}: there is no metric {unknown[0]}. "
                f"Choices: {', '.join(NAMES)}."
            )
        self.num_classes = num_classes
        self.names = list(dict.fromkeys(names))
        self._shares, self._ranks, self._measures = (
            not group.isdisjoint(names) for group in ({"ba", "accuracy"}, {"auc", "ap"}, {"mahd"})
        )
        self.start(torch.device("cpu"))

    @property
    def columns(self) -> list[str]:
        """The keys of `result`, in their order."""
        return [key for name in self.names for key in (_WITH_MISSES.get(name) or (name,))]

    def start(self, device: torch.device) -> None:
        """Forgets everything; what is added next is on that device."""
        # of each label: pixels that have it in truth and prediction, and in the truth
        shape = (max(self.num_classes, 2), 2)
        self._pixels = torch.zeros(shape, dtype=torch.int64, device=device)
        # of each class: scores of background and foreground in rising bins; NaN has the last
        shape = (self.num_classes if self._ranks else 0, 2, BINS + 1)
        self._bins = torch.zeros(shape, dtype=torch.int64, device=device)
        self._distances: list[float] = []

    def add(self, logits: Tensor, predicted: Tensor, target: Tensor) -> None:
        """logits (B, C, H, W), predicted and target (B, H, W) int64; or all with D slices."""
        assert logits.shape[1] == self.num_classes, f"{logits.shape[1]} channels"
        assert predicted.shape == target.shape == logits.shape[:1] + logits.shape[2:], (
            f"{tuple(logits.shape)}, {tuple(predicted.shape)}, {tuple(target.shape)}"
        )
        if self._shares:
            self._pixels += _agreement(predicted, target, len(self._pixels))
        if self._ranks:
            for place, scores in enumerate(log_odds(logits.detach())):
                self._bins[place] += _binned(scores, target, self._label(place))
        if self._measures:
            self._distances += self._mahd(predicted, target)

    def _mahd(self, predicted: Tensor, target: Tensor) -> Iterator[float]:
        known = target != IGNORE
        for place in range(self.num_classes):
            masks = (labels == self._label(place) for labels in (predicted, target))
            yield from map(modified_average_hausdorff, *((mask & known) for mask in masks))

    def _label(self, place: int) -> int:
        return 1 if self.num_classes == 1 else place

    def share(self) -> dict[str, Any]:
        """What this process has added, on the CPU; can be pickled."""
        return {
            "pixels": self._pixels.cpu().numpy(),
            "bins": self._bins.cpu().numpy(),
            "distances": list(self._distances),
        }

    def result(self, shares: list[dict[str, Any]]) -> dict[str, float]:
        """The shares of all processes -> `columns`, each with its value.

        Which process had which image changes no bit of it: all but mahd are made of integers, and
        the sum of mahd is rounded once.
        """
        found: dict[str, float] = {}
        agreed, true = sum(share["pixels"] for share in shares).T
        rankings = [_ranking(counts) for counts in sum(share["bins"] for share in shares)]
        occurs = true > 0
        found["ba"] = mean_defined(agreed[occurs] / true[occurs])[0]
        found["accuracy"] = agreed.sum() / true.sum() if occurs.any() else math.nan
        found["auc"] = mean_defined(np.array([ranking.auc for ranking in rankings]))[0]
        found["ap"] = mean_defined(np.array([ranking.average_precision for ranking in rankings]))[0]
        distances = [value for share in shares for value in share["distances"]]
        finite = [value for value in distances if math.isfinite(value)]
        found["mahd"] = math.fsum(finite) / len(finite) if finite else math.nan
        found["mahd_misses"] = sum(math.isinf(value) for value in distances)
        return {key: float(found[key]) for key in self.columns}


_WITH_MISSES = {"mahd": ("mahd", "mahd_misses")}


def log_odds(logits: Tensor) -> Iterator[Tensor]:
    """(B, C, H, W) logits -> of each class in turn log(p / (1 - p)), (B, H, W).

    Binary: the logit itself. Else z_c - log(sum over the other classes of exp z), which is finite
    and exact where p rounds to 0 or 1.
    """
    z = logits.to(compute_dtype(logits)).unbind(1)
    if len(z) == 1:
        yield z[0]
        return
    after = [torch.full_like(z[0], -math.inf)]
    for channel in reversed(z[1:]):
        after.append(torch.logaddexp(after[-1], channel))
    before = torch.full_like(z[0], -math.inf)
    for channel in z:
        yield channel - torch.logaddexp(before, after.pop())
        before = torch.logaddexp(before, channel)


def _agreement(predicted: Tensor, target: Tensor, labels: int) -> Tensor:
    """-> (labels, 2) int64: pixels of each label in both, and in the truth."""
    rows = []
    for label in range(labels):
        true = target == label
        rows.append(torch.stack([(true & (predicted == label)).sum(), true.sum()]))
    return torch.stack(rows)


def _binned(scores: Tensor, target: Tensor, label: int) -> Tensor:
    """(B, H, W) log-odds -> (2, BINS + 1) int64: pixels of another label, and of this one."""
    z = scores.clamp(-LARGEST, LARGEST)
    place = ((z / (1 + z.abs()) + 1) * (BINS / 2)).long().clamp(max=BINS - 1)
    place = torch.where(z.isnan(), BINS, place)
    side = torch.where(target == IGNORE, 2, (target == label).long())
    counts = torch.bincount((side * (BINS + 1) + place).flatten(), minlength=3 * (BINS + 1))
    return counts.view(3, BINS + 1)[:2]


def _ranking(counts: np.ndarray) -> Ranking:
    """(2, BINS + 1) -> both numbers; NaN where a score was."""
    if counts[:, BINS].any():
        return Ranking(math.nan, math.nan, math.nan, math.nan)
    return of_histogram(counts[:, :BINS])
