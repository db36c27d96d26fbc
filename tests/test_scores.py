"""Scores from counts."""

import ast
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from seglab import scores
from seglab.errors import ConfigError
from seglab.scores import aggregate, convergence, dice, iou, mean_defined, summarise, superiority

COUNTS = arrays.arrays(
    np.int64, arrays.array_shapes(min_dims=1, max_dims=3).map(lambda s: (*s, 3)),
    elements=st.integers(0, 2**40),
)  # fmt: skip
SETS = arrays.arrays(np.int64, (6, 4, 3), elements=st.sampled_from([0, 0, 1, 2, 7, 100]))


def test_iou_and_dice_of_one_hand_example():
    # truth 1 1 1 0 0 0, prediction 1 0 0 1 0 0: tp 1, fp 1, fn 2
    assert iou(np.array([1, 1, 2])) == 1 / 4
    assert dice(np.array([1, 1, 2])) == 2 / 5


def test_both_empty_is_nan_and_one_empty_is_zero():
    counts = np.array([[0, 0, 0], [0, 5, 0], [0, 0, 5]])
    for score in (iou, dice):
        np.testing.assert_array_equal(score(counts), [math.nan, 0, 0])


@given(COUNTS)
def test_dice_is_a_function_of_iou(counts):
    j = iou(counts)
    np.testing.assert_allclose(dice(counts), 2 * j / (1 + j), rtol=1e-12)
    assert j.shape == counts.shape[:-1]


@given(COUNTS)
def test_truth_and_prediction_may_change_places(counts):
    swapped = counts[..., [0, 2, 1]]
    np.testing.assert_array_equal(iou(swapped), iou(counts))
    np.testing.assert_array_equal(dice(swapped), dice(counts))


def test_counts_past_32_bits_are_not_cut():
    assert iou(np.array([2**40, 2**40, 0])) == 0.5


def test_mean_is_over_the_defined_values_and_says_how_many():
    assert mean_defined(np.array([0.5, math.nan, 1.0])) == (0.75, 2)
    mean, defined = mean_defined(np.array([math.nan]))
    assert math.isnan(mean)
    assert defined == 0


# Two images, three classes. Image 1: class 0 tp 1 fn 1, class 1 perfect (2 pixels).
# Image 2: class 0 perfect (8 pixels), class 1 missed (2 pixels). Class 2 occurs nowhere.
PAIR = np.array([[[1, 0, 1], [2, 0, 0], [0, 0, 0]], [[8, 0, 0], [0, 0, 2], [0, 0, 0]]])


def test_data_set_aggregation_sums_before_it_divides():
    # class 0: 9 / 10; class 1: 2 / 4; class 2 is undefined
    assert aggregate(iou, PAIR, "dataset") == (pytest.approx((0.9 + 0.5) / 2), 2)
    assert aggregate(dice, PAIR, "dataset") == (pytest.approx((18 / 19 + 2 / 3) / 2), 2)


def test_image_aggregation_divides_before_it_averages():
    # 1/2, 1, 1, and 0 for the missed one: four of six are defined
    assert aggregate(iou, PAIR, "image") == (pytest.approx(2.5 / 4), 4)


def test_an_unknown_aggregation_is_refused():
    with pytest.raises(ConfigError, match="'mean'; it is one of: dataset, image"):
        aggregate(iou, PAIR, "mean")


@given(SETS, st.permutations(range(6)))
def test_neither_order_nor_batching_matters(counts, order):
    for aggregation in ("dataset", "image"):
        assert aggregate(iou, counts[order], aggregation) == pytest.approx(
            aggregate(iou, counts, aggregation), nan_ok=True, abs=1e-12
        )
    halves = np.stack([counts[:2].sum(axis=0), counts[2:].sum(axis=0)])  # summed as two batches
    assert aggregate(iou, halves, "dataset") == pytest.approx(
        aggregate(iou, counts, "dataset"), nan_ok=True, abs=0
    )


@given(SETS)
def test_for_one_image_the_aggregations_agree(counts):
    assert aggregate(dice, counts[:1], "dataset") == pytest.approx(
        aggregate(dice, counts[:1], "image"), nan_ok=True, abs=0
    )


def test_summary_names_the_first_ratio_biou_and_the_others_by_their_ratio():
    counts = np.array([[[[3, 1, 0], [1, 1, 0], [1, 3, 0]]]])  # region, band 1, band 2
    expected = {"biou": 0.5, "iou": 0.75, "dice": 6 / 7, "biou_0.005": 0.25}
    for aggregation in ("dataset", "image"):
        assert summarise(counts, [0.02, 0.005], aggregation) == pytest.approx(expected)
    assert list(summarise(counts[:, :, :2], [0.02], "dataset")) == ["biou", "iou", "dice"]


def test_summary_of_no_images_is_nan():
    summary = summarise(np.zeros((0, 2, 2, 3), np.int64), [0.02], "image")
    assert all(math.isnan(value) for value in summary.values())


def test_summary_wants_a_ratio_for_each_band():
    with pytest.raises(AssertionError, match="3 entries for ratios"):
        summarise(np.zeros((1, 1, 3, 3), np.int64), [0.02], "dataset")


def epochs(**bious):
    return pd.DataFrame(
        [
            {"loss": loss, "epoch": epoch, "biou": biou}
            for loss, values in bious.items()
            for epoch, biou in enumerate(values)
        ]
    )


def test_superiority_is_the_share_of_epochs_won_and_ties_share():
    # epoch 0: dist; 1: ce and dist tie; 2: dice; 3: dist
    table = epochs(ce=[0.1, 0.5, 0.2, 0.1], dice=[0.2, 0.4, 0.6, 0.2], dist=[0.3, 0.5, 0.1, 0.9])
    expected = {"ce": 12.5, "dice": 25.0, "dist": 62.5}
    assert superiority(table).to_dict() == expected
    assert superiority(table.sample(frac=1, random_state=0)).to_dict() == expected


def test_superiority_compares_the_epochs_that_every_loss_has():
    table = epochs(ce=[0.1, 0.9, 0.9, 0.9], dist=[0.3, 0.2])
    assert superiority(table).to_dict() == {"ce": 50.0, "dist": 50.0}


def test_superiority_of_nan_is_none_and_an_epoch_of_nan_is_left_out():
    table = epochs(ce=[math.nan, math.nan, 0.1, 0.2], dist=[0.1, math.nan, 0.2, 0.1])
    assert superiority(table).to_dict() == pytest.approx({"ce": 100 / 3, "dist": 200 / 3})
    assert superiority(epochs(ce=[math.nan], dist=[0.1])).to_dict() == {"ce": 0.0, "dist": 100.0}
    assert superiority(epochs(ce=[math.nan], dist=[math.nan])).isna().all()


@given(st.lists(st.tuples(*[st.sampled_from([0.1, 0.2, 0.3])] * 3), min_size=1, max_size=9))
def test_superiority_adds_up_to_a_hundred(rows):
    ce, dice_, dist = zip(*rows, strict=True)
    assert superiority(epochs(ce=ce, dice=dice_, dist=dist)).sum() == pytest.approx(100)


def test_superiority_refuses_two_runs_of_one_loss():
    table = epochs(ce=[0.1], dist=[0.2])
    with pytest.raises(AssertionError, match="two runs of one loss"):
        superiority(pd.concat([table, table]))


def test_convergence_is_the_first_epoch_that_reaches_the_threshold():
    biou = pd.Series([0.1, 0.72, 0.6, math.nan, 0.9])
    assert convergence(biou, 0.72) == 1
    assert convergence(biou, 0.8) == 4
    assert convergence(biou, 0.95) is None
    assert convergence(biou.iloc[::-1], 0.72) == 1
    assert convergence(biou[:0], 0.5) is None


def test_scores_import_neither_torch_nor_the_rest_of_seglab():
    tree = ast.parse(Path(scores.__file__).read_text())
    names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import)
             for alias in node.names}  # fmt: skip
    names |= {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert names <= {"collections.abc", "numpy", "pandas", "seglab.errors"}
