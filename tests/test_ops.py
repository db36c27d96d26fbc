"""Tensor helpers that losses and metrics share."""

import pytest
import torch

from seglab.ops import IGNORE, compute_dtype, one_hot, predicted_labels, probabilities

TARGET = torch.tensor([[[0, 1, 2], [IGNORE, 2, 0]]])  # (1, 2, 3)


def test_one_hot_puts_each_pixel_in_its_class_and_the_ignored_in_none():
    planes = one_hot(TARGET, 3)
    assert planes.dtype == torch.float32
    expected = torch.tensor(
        [[[1, 0, 0], [0, 0, 1]], [[0, 1, 0], [0, 0, 0]], [[0, 0, 1], [0, 1, 0]]]
    )
    assert torch.equal(planes[0], expected.float())


def test_one_hot_of_one_class_is_the_foreground():
    target = torch.tensor([[[0, 1, IGNORE]]], dtype=torch.uint8)
    assert one_hot(target, 1).tolist() == [[[[0, 1, 0]]]]


def test_one_hot_of_an_unknown_label_is_an_error():
    with pytest.raises(RuntimeError):
        one_hot(TARGET, 2)


@pytest.mark.parametrize("shape", [(2, 4), (2, 4, 5), (2, 4, 5, 6)])
def test_one_hot_keeps_the_spatial_shape(shape):
    assert one_hot(torch.zeros(shape, dtype=torch.int64), 3).shape == (2, 3, *shape[1:])


def test_probabilities_sum_to_one_but_where_ignored():
    p = probabilities(torch.randn(1, 3, 2, 3), TARGET)
    torch.testing.assert_close(p.sum(1), (TARGET != IGNORE).float())


def test_binary_probability_is_the_sigmoid():
    target = torch.tensor([[[0, 1, IGNORE]]])
    p = probabilities(torch.tensor([[[[0.0, 50.0, 3.0]]]]), target)
    torch.testing.assert_close(p, torch.tensor([[[[0.5, 1.0, 0.0]]]]))


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (torch.float16, torch.float32),
        (torch.bfloat16, torch.float32),
        (torch.float32, torch.float32),
        (torch.float64, torch.float64),
    ],
)
def test_half_precision_is_for_storage_only(given, expected):
    logits = torch.zeros(1, 3, 2, 3, dtype=given)
    assert compute_dtype(logits) == expected
    assert probabilities(logits, TARGET).dtype == expected


def test_predicted_labels_are_the_most_probable():
    logits = torch.tensor([[[[0.1, 3.0]], [[0.2, -1.0]], [[0.0, 2.0]]]])
    assert predicted_labels(logits).tolist() == [[[1, 0]]]


def test_predicted_labels_of_one_channel_are_the_positive_logits():
    logits = torch.tensor([[[[-0.1, 0.0, 0.1]]]])
    found = predicted_labels(logits)
    assert found.dtype == torch.int64
    assert found.tolist() == [[[0, 0, 1]]]
