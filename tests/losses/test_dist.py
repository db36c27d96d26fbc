"""The distance transform-based loss, and Table 3.1."""

import cv2
import numpy as np
import pytest
import torch
from hydra.utils import instantiate
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from seglab.losses.dist import Dist, boundary_weights, foreground_weights
from seglab.tables.pizza import PIZZAS, PUBLISHED

from . import reference
from .batches import IGNORE, batch, label_map, one_sided, value_and_gradient
from .conftest import LOSSES

distances = pytest.mark.parametrize("distance", ["euclidean", "chessboard"])


@distances
@pytest.mark.parametrize("row", PUBLISHED)
def test_table_3_1_to_three_decimals(distance, row):
    path = next(path for path in LOSSES if path.stem == row)
    loss = instantiate(OmegaConf.load(path), **({"distance": distance} if row == "dist" else {}))
    pizza = PIZZAS[distance]
    target = torch.from_numpy(pizza.truth()).long().unsqueeze(0)
    found = []
    for prediction in pizza.predictions():
        mask = torch.from_numpy(prediction).float().view(1, 1, *prediction.shape)
        logits = mask if row == "ce" else 200 * mask - 100  # see pizza.py; else p is 0 or 1
        found.append(round(float(loss(logits, target)), 3))
    assert tuple(found) == PUBLISHED[row]


@distances
def test_the_pizza_is_where_the_figure_shows_it(distance):
    # Corners are inside, what lies just beyond them is not; rectangles exclude x1 and y1.
    pizza = PIZZAS[distance]
    polygon, *rectangles = pizza.predictions()
    assert all(polygon[y, x] for x, y in pizza.polygon)
    assert polygon.sum() < pizza.truth().sum() < rectangles[0].sum()
    for mask, (x0, y0, x1, y1) in zip(rectangles, pizza.rectangles, strict=True):
        assert mask.sum() == (x1 - x0) * (y1 - y0)
        assert mask[y0, x0]
        assert mask[y1 - 1, x1 - 1]
        assert not mask[y1, x1]


@distances
@pytest.mark.parametrize("class_reduction", ["mean", "sum"])
@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    channels=st.integers(1, 6),
    ignored=st.sampled_from([0.0, 0.1, 0.7]),
    shape=st.sampled_from([(1, 1), (1, 11), (3, 2), (12, 17)]),
)
def test_value_and_gradient_are_those_of_the_textbook(
    distance, class_reduction, seed, channels, ignored, shape
):
    logits, target = batch(seed, channels, shape, ignored=ignored)
    logits = logits.double()
    found = value_and_gradient(Dist(distance, class_reduction), logits, target)
    expected = value_and_gradient(
        lambda *pair: reference.dist(*pair, distance, class_reduction), logits, target
    )
    torch.testing.assert_close(found, expected, rtol=2e-6, atol=1e-9)  # w is float32


@distances
@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), labels=st.integers(1, 8))
def test_weights_are_those_of_the_textbook(distance, seed, labels):
    rng = np.random.default_rng(seed)
    target = label_map(rng, tuple(rng.integers(1, 20, size=2)), labels)
    target[rng.random(target.shape) < 0.05] = IGNORE
    expected = np.zeros(target.shape)
    for c in range(labels):
        if (target == c).any():
            expected += np.where(target == c, reference.weights(target == c, distance), 0)
    found = boundary_weights(torch.from_numpy(target)[None], distance)[0]
    torch.testing.assert_close(found.double(), torch.from_numpy(expected), rtol=0, atol=5e-7)


@distances
def test_weights_of_a_row_by_hand(distance):
    # D = 1 2 3 3 2 1 between two borders, so w = (3 - D) / 2; the label at the image's edge has
    # D = 2 1 and w = 0 1, because the edge is no border; the one-pixel label has D = 1, w = 1.
    labels = torch.tensor([[[4, 4, 7, 7, 7, 7, 7, 7, 2]]])
    expected = torch.tensor([[[0, 1, 1, 0.5, 0, 0, 0.5, 1, 1]]])
    assert torch.equal(boundary_weights(labels, distance), expected)


def test_the_two_distances_differ_across_a_corner():
    labels = torch.ones(1, 7, 7, dtype=torch.int64)
    labels[:, 0, 0] = 0
    euclidean, chessboard = (boundary_weights(labels, d) for d in ("euclidean", "chessboard"))
    assert chessboard[0, 6, 0] == 0  # 6 steps away, as is the corner opposite
    assert euclidean[0, 6, 0] > 0  # 6 away; the corner opposite is 6 sqrt(2) away
    assert euclidean[0, 6, 6] == 0


@distances
def test_weights_are_one_where_the_steps_divide_zero_by_zero(distance):
    two_wide = torch.zeros(1, 9, 9, dtype=torch.int64)
    two_wide[:, :, 4:6] = 1
    assert (boundary_weights(two_wide, distance)[two_wide == 1] == 1).all()
    assert (boundary_weights(torch.full((1, 5, 6), 3), distance) == 1).all()


@distances
def test_an_ignored_pixel_is_of_another_label_and_weighs_nothing(distance):
    labels = torch.zeros(1, 1, 9, dtype=torch.int64)
    labels[0, 0, 8] = IGNORE
    found = boundary_weights(labels, distance)[0, 0]
    torch.testing.assert_close(found, torch.tensor([0, 1, 2, 3, 4, 5, 6, 7, 0]) / 7)
    assert (boundary_weights(torch.full((1, 3, 3), IGNORE), distance) == 0).all()


@distances
@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.int64])
def test_a_loader_can_make_the_weights(distance, channels, dtype):
    logits, target = batch(0, channels)
    loss = Dist(distance, "mean")
    planes = [loss.plane(image.astype(dtype)) for image in target.numpy()]
    assert all(plane.dtype == np.float32 for plane in planes)
    planes = torch.from_numpy(np.stack(planes))
    found = value_and_gradient(loss, logits, target, planes)
    torch.testing.assert_close(found, value_and_gradient(loss, logits, target), rtol=0, atol=0)


def test_given_weights_are_used(channels):
    logits, target = batch(0, channels)
    loss = Dist("euclidean", "mean")
    assert loss(logits, target, torch.ones(target.shape)) != loss(logits, target)


def test_hand_example():
    # Foreground of three pixels, D = 3 2 1 to the background at their right: w = 0, 1/2, 1.
    # p = 1/4 3/4 1/2 | 1/4, and an ignored pixel beyond: ratio = (3/8 + 1/2) / (3/2 + 1/4) = 1/2
    p = torch.tensor([0.25, 0.75, 0.5, 0.25, 0.9])
    target = torch.tensor([[[1, 1, 1, 0, IGNORE]]])
    value = Dist("euclidean", "mean")(p.logit().view(1, 1, 1, 5), target)
    torch.testing.assert_close(value.item(), 1 - 0.5)


def test_hand_example_two_classes():
    # Labels 0 0 0 | 1: w = 0 1/2 1 | 1, p_0 = 1/4 3/4 1/2 | 1/4, p_1 = 1 - p_0.
    # ratio_0 = (3/8 + 1/2) / (3/2 + 1/4) = 1/2, ratio_1 = (3/4) / (1 + 3/4 + 1/4 + 1/2) = 3/10
    p = torch.tensor([0.25, 0.75, 0.5, 0.25])
    logits = torch.stack([p, 1 - p]).log().view(1, 2, 1, 4)
    target = torch.tensor([[[0, 0, 0, 1]]])
    torch.testing.assert_close(Dist("euclidean", "mean")(logits, target).item(), 1 - 0.8 / 2)
    torch.testing.assert_close(Dist("euclidean", "sum")(logits, target).item(), 1 - 0.8)


@distances
def test_a_batch_is_the_mean_of_its_images(distance, channels):
    loss = Dist(distance, "mean")
    logits, target = batch(1, channels, images=4)
    target[0, 3:] = IGNORE
    images = [loss(logits[i : i + 1], target[i : i + 1]) for i in range(4)]
    torch.testing.assert_close(loss(logits, target), torch.stack(images).mean())


@pytest.mark.parametrize("class_reduction", ["mean", "sum"])
def test_an_image_with_no_class_present_contributes_one_with_zero_gradient(class_reduction):
    loss = Dist("euclidean", class_reduction)
    for channels, label in ((1, 0), (1, IGNORE), (4, IGNORE)):
        logits, target = batch(2, channels, images=2)
        target[0] = label
        value, gradient = value_and_gradient(loss, logits, target)
        torch.testing.assert_close(value, (1 + loss(logits[1:], target[1:])) / 2)
        assert (gradient[0] == 0).all()
        assert (gradient[1] != 0).any()


def test_an_absent_class_does_not_count():
    logits, target = batch(3, 4, images=1)
    wider = torch.cat([logits, torch.full_like(logits[:, :1], -200.0)], dim=1)  # p_4 = 0
    loss = Dist("euclidean", "mean")
    torch.testing.assert_close(loss(wider, target), loss(logits, target))


def test_lies_between_zero_and_one_and_reaches_both(channels):
    loss = Dist("euclidean", "mean")
    _, target = batch(4, channels, ignored=0.0)
    assert loss(one_sided(target, channels, 100.0), target).abs() < 1e-6
    assert (1 - loss(one_sided(target, channels, -100.0), target)).abs() < 1e-6


def test_the_printed_sum_over_classes_falls_below_zero():
    _, target = batch(5, 4, images=1, ignored=0.0)
    value = Dist("euclidean", "sum")(one_sided(target, 4, 100.0), target)
    torch.testing.assert_close(value.item(), 1.0 - len(target.unique()), rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "key"),
    [(("manhattan", "mean"), "loss.distance"), (("euclidean", "max"), "loss.class_reduction")],
)
def test_an_unknown_choice_is_named(arguments, key):
    with pytest.raises(ValueError, match=key):
        Dist(*arguments)


@distances
def test_volumes_have_distances_across_slices(distance, channels):
    logits, target = batch(6, channels, shape=(4, 5, 6), images=2)
    logits = logits.double()
    loss = Dist(distance, "mean")
    found = value_and_gradient(loss, logits, target)
    expected = value_and_gradient(
        lambda *pair: reference.dist(*pair, distance, "mean"), logits, target
    )
    torch.testing.assert_close(found, expected, rtol=2e-6, atol=1e-9)


@distances
def test_the_weights_of_the_foreground_alone_are_those_of_all_labels(distance):
    rng = np.random.default_rng(0)
    for number in range(60):
        shape = (2, *rng.integers(1, 40, 2).tolist())
        grid = (rng.random((2, 10, 10)) < rng.random()).astype(np.uint8)
        labels = np.stack([cv2.resize(cells, shape[:0:-1]) for cells in grid]).astype(np.int64)
        labels[rng.random(shape) < rng.choice([0.0, 0.1])] = IGNORE
        if number < 3:
            labels[:] = (0, 1, IGNORE)[number]
        labels = torch.from_numpy(labels)
        expected = boundary_weights(labels, distance).where(labels == 1, torch.tensor(0.0))
        assert torch.equal(foreground_weights(labels, distance), expected), shape
