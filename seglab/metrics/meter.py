"""What the engine is handed: all the counts of a run in one call."""

from collections.abc import Sequence

from torch import Tensor

from seglab.metrics.bands import boundary_width
from seglab.metrics.counts import prepared, tallies


class Meter:
    """Counts of the region and of the boundary band at each ratio, in that order.

    Args:
        num_classes: channels of the logits; 1 is a binary task.
        ratios: band widths as shares of the image diagonal (Cheng et al. 2021).
    """

    def __init__(self, num_classes: int, ratios: list[float]) -> None:
        self.num_classes = num_classes
        self.ratios = list(ratios)

    def widths(self, shape: Sequence[int]) -> list[int]:
        """Band widths in pixels of an image (H, W) or a volume (D, H, W), one for each ratio."""
        return [boundary_width(shape, ratio) for ratio in self.ratios]

    def counts(self, predicted: Tensor, target: Tensor) -> Tensor:
        """(B, H, W) class indices, twice -> (B, K, 1 + len(ratios), 3) int64 tp, fp, fn.

        Or (B, D, H, W), twice.

        Entry 0 is the region (`region_counts`), entry 1 + r the band at ratios[r]
        (`boundary_counts`). On the device of the inputs, without waiting for it.
        """
        predicted, target = prepared(predicted, target, self.num_classes)
        widths = [0, *self.widths(target.shape[1:])]
        return tallies(predicted, target, self.num_classes, widths)
