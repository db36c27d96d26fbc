"""The meter that the engine is handed."""

import torch
from test_counts import equal, pair

from seglab.metrics import Meter, boundary_counts, region_counts


def test_counts_are_the_region_then_each_ratio():
    predicted, target = pair(1, 100, 75, 4)
    meter = Meter(4, [0.02, 0.005, 0.1])
    widths = meter.widths((100, 75))
    assert widths == [2, 1, 12]  # diagonal 125: 2.5, 0.625 and 12.5, halves to even
    ours = meter.counts(predicted, target)
    assert ours.shape == (1, 4, 4, 3)
    assert ours.dtype == torch.int64
    equal(ours[:, :, 0], region_counts(predicted, target, 4))
    for column, d in enumerate(widths, 1):
        equal(ours[:, :, column], boundary_counts(predicted, target, 4, d))


def test_a_binary_meter_has_one_class():
    predicted, target = pair(1, 40, 40, 1)
    ours = Meter(1, [0.02]).counts(predicted, target)
    assert ours.shape == (1, 1, 2, 3)
    equal(ours[:, :, 0], region_counts(predicted, target, 1))


def test_a_meter_without_ratios_counts_the_region():
    predicted, target = pair(1, 40, 40, 3)
    ours = Meter(3, []).counts(predicted, target)
    equal(ours[:, :, 0], region_counts(predicted, target, 3))
    assert ours.shape == (1, 3, 1, 3)
