"""Metrics as integer counts. Every score is made from them afterwards, by `seglab.scores`.

Conventions, decided once:
    255 in the truth is ignored: such a pixel belongs to no mask, of the truth or of the prediction,
    before anything is counted, so it enters no count and every mask ends at it.
    The image border ends a mask too (outside the image is not the class).
    K = 1 for a binary task (num_classes = 1): the foreground, label 1, alone. Else K = num_classes.
    Both masks empty: the counts are 0, 0, 0 and the score is NaN. One empty: the score is 0.
"""

from seglab.metrics.bands import boundary_band, boundary_width
from seglab.metrics.counts import boundary_counts, boundary_counts_many, region_counts
from seglab.metrics.meter import Meter

__all__ = [
    "Meter",
    "boundary_band",
    "boundary_counts",
    "boundary_counts_many",
    "boundary_width",
    "region_counts",
]
