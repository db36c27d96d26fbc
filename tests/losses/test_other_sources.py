"""The losses of the other sources are their definitions, written out with SciPy and torch."""

import copy
import inspect
import itertools
import math
import re

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy import ndimage

from seglab.distance import squared_euclidean, squared_euclidean_map
from seglab.losses.boundary import Boundary, signed_distances
from seglab.losses.cross_entropy import ConfidencePenalty, Focal, WeightedBinaryCrossEntropy
from seglab.losses.lovasz import Lovasz
from seglab.losses.overlap import DiceSquared, FocalTversky, Tversky
from seglab.losses.weighted import DistancePenalty, ShapeAware, components, nearest_two
from seglab.losses.weighted_sum import Schedule, WeightedSum

from . import reference
from .batches import IGNORE, batch, value_and_gradient
from .reference import truth_and_probability


def agree(loss, expected, logits, target):
    found = value_and_gradient(loss, logits, target)
    wanted = value_and_gradient(expected, logits.double(), target)
    torch.testing.assert_close(found[0].double(), wanted[0], rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(found[1].double(), wanted[1], rtol=1e-4, atol=1e-8)


# ---------------------------------------------------------------- overlap


def index(logits, target, alpha, beta, smooth):
    y, p, valid = truth_and_probability(logits, target)
    tp, fn = (y * p).sum(2), (y * (1 - p) * valid).sum(2)
    fp = ((1 - y) * p).sum(2)
    return (tp + smooth) / (tp + alpha * fn + beta * fp + smooth)


def test_tversky(channels):
    def expected(z, y):
        return (1 - index(z, y, 0.7, 0.3, 1.0)).mean()

    agree(Tversky(0.7, 0.3, 1.0), expected, *batch(0, channels))


def test_focal_tversky(channels):
    def expected(z, y):
        return ((1 - index(z, y, 0.6, 0.4, 0.5)) ** 1.5).sum(1).mean()

    agree(FocalTversky(0.6, 0.4, 1.5, 0.5), expected, *batch(1, channels))


@pytest.mark.parametrize("gamma", [0.75, 3.5])
def test_focal_tversky_refuses_an_exponent_out_of_range(gamma):
    with pytest.raises(ValueError, match=f"gamma={gamma}: must be from 1 to 3"):
        FocalTversky(0.5, 0.5, gamma, 1.0)


def test_dice_squared(channels):
    def expected(z, t):
        y, p, _ = truth_and_probability(z, t)
        hit, total = (y * p).sum((1, 2)), (y**1.5 + p**1.5).sum((1, 2))
        return (1 - (2 * hit + 0.3) / (total + 0.3)).mean()

    agree(DiceSquared(1.5, 0.3), expected, *batch(2, channels))


# ---------------------------------------------------------------- cross-entropy


def test_weighted_bce_is_torchs():
    logits, target = batch(3, 1)

    def expected(z, t):
        known = t != IGNORE
        beta = torch.tensor(2.5, dtype=z.dtype)
        return F.binary_cross_entropy_with_logits(
            z[:, 0][known], (t[known] == 1).to(z.dtype), pos_weight=beta
        )

    agree(WeightedBinaryCrossEntropy(2.5), expected, logits, target)
    with pytest.raises(ValueError, match="binary data sets, not 4 classes"):
        WeightedBinaryCrossEntropy(2.5)(*batch(3, 4))


def test_focal_alpha_is_a_share_of_focal(channels):
    def expected(z, t):
        return 0.25 * reference.focal(z, t)

    agree(Focal(2.0, 0.25), expected, *batch(4, channels))


def test_confidence_penalty(channels):
    def expected(z, t):
        known = (t != IGNORE).flatten()
        if z.shape[1] == 1:
            entropy = torch.distributions.Bernoulli(logits=z[:, 0].flatten()[known]).entropy()
        else:
            rows = z.movedim(1, -1).flatten(0, -2)[known]
            entropy = torch.distributions.Categorical(logits=rows).entropy()
        return reference.ce(z, t) - 0.3 * entropy.mean()

    agree(ConfidencePenalty(0.3), expected, *batch(5, channels))


# ---------------------------------------------------------------- Lovasz


def jaccard_loss(truth, wrong):
    """1 - IoU where the pixels of the set `wrong` are wrong."""
    predicted = truth ^ wrong
    union = (truth | predicted).sum()
    return 1 - (truth & predicted).sum() / union if union else 0.0


@pytest.mark.parametrize("seed", range(5))
def test_lovasz_is_the_extension_of_the_jaccard_loss(seed):
    """f(m) = sum over the pixels, by falling error, of the error times what it adds to the loss."""
    logits, target = batch(seed, 1, shape=(3, 4), images=1, ignored=0.2)
    known = (target != IGNORE).flatten().numpy()
    truth = (target.flatten() == 1).numpy()[known]
    errors = (logits.sigmoid().flatten().numpy()[known] - truth).__abs__()
    wrong, expected = np.zeros(len(truth), dtype=bool), 0.0
    for pixel in np.argsort(-errors):
        before = jaccard_loss(truth, wrong)
        wrong[pixel] = True
        expected += errors[pixel] * (jaccard_loss(truth, wrong) - before)
    assert math.isclose(Lovasz()(logits, target), expected, rel_tol=1e-5)


def test_lovasz_of_a_hard_prediction_is_one_minus_iou():
    for predicted, truth in itertools.product(([1, 1, 0, 0], [0, 0, 0, 1]), ([1, 0, 0, 0],)):
        logits = 200.0 * torch.tensor(predicted).view(1, 1, 2, 2) - 100
        both = np.array(predicted) & np.array(truth)
        either = np.array(predicted) | np.array(truth)
        found = float(Lovasz()(logits, torch.tensor(truth).view(1, 2, 2)))
        assert math.isclose(found, 1 - both.sum() / either.sum(), abs_tol=1e-6)


def test_lovasz_leaves_out_absent_classes_and_averages_images():
    logits, target = batch(6, 4)
    target[0][target[0] == 2] = 1
    single = [Lovasz()(logits[i : i + 1], target[i : i + 1]) for i in range(3)]
    torch.testing.assert_close(Lovasz()(logits, target), torch.stack(single).mean())
    other = logits.clone()
    other[0, 2] = -1e4  # an absent class may be predicted or not: its own term is left out
    p, y = other.softmax(1)[0].flatten(1), target[0].flatten()
    terms = []
    for c in (0, 1, 3):
        binary = torch.where(y == IGNORE, y, (y == c).long())
        terms.append(Lovasz()(torch.logit(p[c].double()).view(1, 1, 1, -1), binary.view(1, 1, -1)))
    found = Lovasz()(other[:1], target[:1])
    torch.testing.assert_close(found.double(), torch.stack(terms).mean(), rtol=1e-5, atol=1e-6)


# ---------------------------------------------------------------- distances


def signed(mask, spacing):
    if mask.all() or not mask.any():
        return np.zeros(mask.shape)
    outside = ndimage.distance_transform_edt(~mask, sampling=spacing)
    return outside - ndimage.distance_transform_edt(mask, sampling=spacing)


@pytest.mark.parametrize(("shape", "spacing"), [((13, 18), None), ((5, 9, 8), (2.0, 0.5, 0.7))])
def test_boundary(channels, shape, spacing):
    logits, target = batch(7, channels, shape=shape)
    target[0] = 0  # one class fills the image, the others are absent

    def expected(z, t):
        y, p, valid = truth_and_probability(z, t)
        maps = [
            [signed(y[b, c].view(shape).numpy() > 0, spacing) for c in range(y.shape[1])]
            for b in range(len(t))
        ]
        d = torch.from_numpy(np.stack(maps)).flatten(2).clamp(-3, 3) / 2
        return (d * p).sum() / (valid.sum() * y.shape[1])

    agree(Boundary(3.0, 2.0, spacing), expected, logits, target)


def test_signed_distances_are_negative_inside():
    target = torch.zeros(1, 1, 6, dtype=torch.long)
    target[0, 0, 2:5] = 1
    found = signed_distances(target, 1)[0, 0, 0].tolist()
    assert found == [2, 1, -1, -2, -1, 1]


@pytest.mark.parametrize(("shape", "spacing"), [((13, 18), None), ((5, 9, 8), (2.0, 0.5, 0.7))])
def test_distance_penalty(channels, shape, spacing):
    logits, target = batch(8, channels, shape=shape)
    target[0] = 1

    def phi(labels):
        found = np.zeros(shape)
        for label in np.unique(labels):
            mask = labels == label
            if not mask.all():
                depth = ndimage.distance_transform_edt(mask, sampling=spacing)
                found[mask] = depth.max() - depth[mask]
        return found

    def expected(z, t):
        y, _, valid = truth_and_probability(z, t)
        if z.shape[1] == 1:
            cost = F.binary_cross_entropy_with_logits(z.flatten(2), y, reduction="none")
        else:
            cost = -(z.flatten(2).log_softmax(1) * y).sum(1, keepdim=True)
        w = torch.from_numpy(np.stack([1 + phi(labels) for labels in t.numpy()])).flatten(1)
        return (w[:, None] * cost * valid).sum() / valid.sum()

    agree(DistancePenalty(spacing), expected, logits, target)


def test_shape_aware_is_the_formula_of_the_unet():
    logits, target = batch(9, 1, shape=(20, 24), ignored=0.05)

    def weigh(labels):
        components, count = ndimage.label(labels == 1, np.ones((3, 3)))
        d = np.sort([ndimage.distance_transform_edt(components != n + 1) for n in range(count)], 0)
        class_weight = np.where(labels == 1, 3.0, 2.0)
        return class_weight + 7 * np.exp(-((d[0] + d[1]) ** 2) / (2 * 4**2))

    def expected(z, t):
        y, _, valid = truth_and_probability(z, t)
        cost = F.binary_cross_entropy_with_logits(z.flatten(2), y, reduction="none")
        w = torch.from_numpy(np.stack([weigh(labels) for labels in t.numpy()])).flatten(1)
        return (w[:, None] * cost * valid).sum() / valid.sum()

    agree(ShapeAware([2.0, 3.0], 7.0, 4.0, None), expected, logits, target)


def test_shape_aware_is_high_between_objects_and_nowhere_else():
    labels = np.zeros((21, 60), dtype=np.uint8)
    labels[5:16, 5:20] = labels[5:16, 23:38] = 1  # a gap of three pixels
    weights = ShapeAware(None, 10.0, 5.0, None).plane(labels)
    assert weights[10, 20:23].min() > 7
    assert weights[10, 55] < 1.01
    alone = np.where(np.arange(60) < 21, labels, 0)
    assert np.array_equal(ShapeAware(None, 10.0, 5.0, None).plane(alone), np.ones(labels.shape))


def test_touching_instances_are_two_objects_to_shape_aware():
    labels = np.zeros((9, 30), dtype=np.uint8)
    labels[2:7, 5:25] = 1
    instances = np.zeros(labels.shape, dtype=np.uint16)
    instances[2:7, 5:15], instances[2:7, 15:25] = 300, 7  # any numbers, in any order
    loss = ShapeAware(None, 10.0, 5.0, None)
    weights = loss.plane(labels, instances)
    # in the left one d1 = 0 and d2 = 1, 2, ... pixels to the right one
    expected = [1 + 10 * math.exp(-(step**2) / 50) for step in (1, 2, 3, 4, 5)]
    np.testing.assert_allclose(weights[4, 14:9:-1], expected, rtol=1e-6)
    np.testing.assert_allclose(weights[4, 15:20], expected, rtol=1e-6)
    assert (loss.plane(labels) == 1).all()  # one component


def test_instances_that_are_the_components_change_nothing():
    _, target = batch(12, 4)
    loss = ShapeAware([1.0, 2.0], 10.0, 5.0, (1.0, 2.0))
    for labels in target.numpy():
        known = loss.plane(labels, components(labels))
        np.testing.assert_array_equal(known, loss.plane(labels))


def test_what_is_ignored_is_no_object():
    labels = np.zeros((9, 30), dtype=np.uint8)
    labels[2:7, 5:12], labels[2:7, 14:20] = 1, IGNORE
    instances = (labels > 0) + (labels == IGNORE).astype(int)
    loss = ShapeAware(None, 10.0, 5.0, None)
    assert (loss.plane(labels, instances) == 1).all()
    labels[2:7, 17:20] = 1  # of an object that is ignored in part, the rest counts
    np.testing.assert_array_equal(loss.plane(labels, instances), loss.plane(labels))
    assert loss.plane(labels, instances).max() > 5


def test_instances_of_another_mask_are_refused():
    labels = np.zeros((4, 6), dtype=np.uint8)
    labels[:, :3] = 1
    loss = ShapeAware(None, 10.0, 5.0, None)
    with pytest.raises(ValueError, match=r"12 pixels of the background \(label 0\) have a number"):
        loss.plane(labels, labels[:, ::-1])
    with pytest.raises(ValueError, match=r"instances of \(4, 5\) pixels for a mask of \(4, 6\)"):
        loss.plane(labels, labels[:, 1:])


def test_objects_are_the_components_of_each_class():
    labels = np.array([[1, 0, 2, 2], [0, 1, 255, 2], [0, 0, 0, 0], [2, 2, 0, 1]], dtype=np.uint8)
    numbers = components(labels)
    assert sorted(np.unique(numbers)) == [0, 1, 2, 3, 4]
    assert numbers[0, 0] == numbers[1, 1] != numbers[3, 3]  # corners join
    assert numbers[0, 2] != numbers[3, 0]
    first, second = nearest_two(numbers, (2.0, 1.0))
    assert first[2, 0] == 2
    assert math.isclose(second[2, 0], math.hypot(2, 1))


def test_the_reach_spares_work_and_changes_no_nearer_distance():
    numbers = components((np.random.default_rng(0).random((40, 60)) < 0.01).astype(np.uint8))
    exact, near = nearest_two(numbers, (1.0, 0.5)), nearest_two(numbers, (1.0, 0.5), reach=6.0)
    for whole, cut in zip(exact, near, strict=True):
        assert (cut >= whole).all()
        assert np.array_equal(cut[whole <= 6], whole[whole <= 6])


def test_weights_made_beforehand_give_the_same_loss():
    logits, target = batch(10, 4)
    for loss in (DistancePenalty(None), ShapeAware(None, 10.0, 5.0, None)):
        planes = np.stack([loss.plane(labels.numpy().astype(np.uint8)) for labels in target])
        assert torch.equal(loss(logits, target, torch.from_numpy(planes)), loss(logits, target))


NOT_SIZES = [[0, 1], [1, -2], [1, math.inf], [math.nan, 1], [], 3, ["wide", 1]]


@pytest.mark.parametrize("spacing", NOT_SIZES, ids=str)
def test_a_spacing_of_other_than_positive_numbers_is_refused_when_a_loss_is_made(spacing):
    message = re.escape(f"spacing={spacing}: must be positive numbers")
    for make in (
        lambda: DistancePenalty(spacing),
        lambda: ShapeAware(None, 10.0, 5.0, spacing),
        lambda: Boundary(None, None, spacing),
    ):
        with pytest.raises(ValueError, match=message):
            make()


@pytest.mark.parametrize(
    ("shape", "spacing"), [((12, 17), [3.0, 1.0, 1.0]), ((5, 6, 7), [2.0, 1.0])]
)
def test_a_spacing_for_other_axes_is_refused_in_use(channels, shape, spacing):
    logits, target = batch(14, channels, shape=shape)
    message = re.escape(f"spacing={spacing}: must be {len(shape)} positive numbers")
    losses = DistancePenalty(spacing), Boundary(None, None, spacing)
    for loss in (*losses, ShapeAware(None, 10.0, 5.0, spacing)):
        with pytest.raises(ValueError, match=message):
            loss(logits, target)
    for transform in (squared_euclidean_map, nearest_two):
        with pytest.raises(ValueError, match=message):
            transform(target[0].numpy(), spacing)
    with pytest.raises(ValueError, match=message):  # before any device's own form is called
        squared_euclidean(target.to("meta"), spacing)


# ---------------------------------------------------------------- sums over epochs


def schedule(rule, value, change=0.2, every=20, highest=1.0):
    return Schedule(rule, value, change, every, highest)


def test_schedules():
    epochs = (1, 2, 3, 20, 21, 100)
    assert [schedule("constant", 0.5)(k) for k in epochs] == [0.5] * 6
    assert [schedule("linear", 0.25, highest=0.9)(k) for k in (1, 2, 4)] == [0.25, 0.5, 0.9]
    found = [schedule("exponential", 0.5)(k) for k in (1, 4)]
    assert np.allclose(found, [1 - math.exp(-0.5), 1 - math.exp(-2.0)])
    assert [schedule("step", 0.5)(k) for k in epochs] == [0.5, 0.5, 0.5, 0.5, 0.7, 1.0]
    with pytest.raises(ValueError, match="rule=cosine: must be one of constant"):
        schedule("cosine", 0.5)
    with pytest.raises(ValueError, match="every=0"):
        schedule("step", 0.5, every=0)
    with pytest.raises(ValueError, match=r"value=2\.0: is above highest=1\.0"):
        schedule("constant", 2.0)


@pytest.mark.parametrize("rule", ["constant", "linear", "exponential", "step"])
@pytest.mark.parametrize(("value", "change"), [(0.3, 0.2), (0.3, -0.2), (-0.3, 0.2), (0.0, 0.0)])
@pytest.mark.parametrize("highest", [0.7, 2.0])
def test_the_most_of_a_schedule_is_what_its_weights_come_to(rule, value, change, highest):
    alpha = schedule(rule, value, change, 2, highest)
    assert math.isclose(max(alpha(k) for k in range(1, 100)), alpha.most, abs_tol=1e-12)


def test_a_weighted_sum_follows_the_epoch():
    parts = Tversky(0.7, 0.3, 1.0), Boundary(None, 10.0, None)
    loss = WeightedSum(
        {
            "tversky": {"loss": parts[0], "weight": "rest"},
            "boundary": {"loss": parts[1], "weight": schedule("linear", 0.1)},
        }
    )
    logits, target = batch(11, 4)
    values = [part(logits, target) for part in parts]
    for epoch, alpha in ((1, 0.1), (4, 0.4)):
        loss.set_epoch(epoch)
        assert loss.weights_in_use() == {"tversky": 1 - alpha, "boundary": alpha}
        expected = (1 - alpha) * values[0] + alpha * values[1]
        torch.testing.assert_close(loss(logits, target), expected)
    assert set(loss.not_promised) == {"crop"}


class KnowsTheEpoch(Lovasz):
    epoch = 0

    def set_epoch(self, epoch):
        self.epoch = epoch


def test_a_weighted_sum_tells_its_terms_the_epoch():
    first, second = Lovasz(), KnowsTheEpoch()
    inner = WeightedSum(
        {
            "first": {"loss": first, "weight": "rest"},
            "second": {"loss": second, "weight": schedule("linear", 0.1)},
        }
    )
    tversky = Tversky(0.7, 0.3, 1.0)
    loss = WeightedSum(
        {
            "inner": {"loss": inner, "weight": schedule("linear", 0.2)},
            "tversky": {"loss": tversky, "weight": "rest"},
        }
    )
    loss.set_epoch(3)
    assert second.epoch == 3
    weights = {"inner": 0.6, "tversky": 0.4, "inner_first": 0.7, "inner_second": 0.3}
    assert loss.weights_in_use() == pytest.approx(weights)
    logits, target = batch(15, 4)
    parts = 0.7 * first(logits, target) + 0.3 * second(logits, target)
    torch.testing.assert_close(loss(logits, target), 0.6 * parts + 0.4 * tversky(logits, target))


def with_rest(**given):
    weights = given | {"tversky": "rest"}
    return WeightedSum({n: {"loss": Lovasz(), "weight": w} for n, w in weights.items()})


def test_a_rest_below_0_is_refused_when_the_sum_is_made():
    message = r"terms\.tversky\.weight=rest: .* \(a\) reach 2, which leaves -1\."
    for rule in ("linear", "step"):  # in a later epoch
        with pytest.raises(ValueError, match=message):
            with_rest(a=schedule(rule, 0.1, highest=2.0))
    with pytest.raises(ValueError, match=message):
        with_rest(a=schedule("constant", 2.0, highest=2.0))
    with pytest.raises(ValueError, match=r"\(a, b\) reach 1\.5, which leaves -0\.5"):
        with_rest(a=schedule("constant", 0.5), b=schedule("exponential", 0.1, highest=2.0))
    decimals = {"a": 0.2, "b": 0.4, "c": 0.3, "d": 0.1}
    full = with_rest(**{name: schedule("constant", weight) for name, weight in decimals.items()})
    rest = full.weights_in_use()["tversky"]
    assert -1e-15 < rest < 0  # they add up to 1 but for rounding
    falling = schedule("step", 0.9, -0.2, highest=2.0)
    assert with_rest(a=falling).weights_in_use()["tversky"] == pytest.approx(0.1)
    together = WeightedSum({"a": {"loss": Lovasz(), "weight": schedule("constant", 2, highest=2)}})
    assert together.weights_in_use() == {"a": 2}  # nothing is left out, so nothing is below 0


def test_a_rest_below_0_by_a_schedule_of_ones_own_is_refused_in_its_epoch():
    loss = with_rest(a=lambda epoch: 0.3 * epoch)
    for epoch in (1, 2, 3):
        loss.set_epoch(epoch)
        assert loss.weights_in_use()["tversky"] == pytest.approx(1 - 0.3 * epoch)
    loss.set_epoch(4)
    with pytest.raises(ValueError, match=r"\(a\) reach 1\.2, which leaves -0\.2"):
        loss(*batch(16, 1))


def test_a_weighted_sum_hands_planes_to_the_term_that_takes_them():
    shape_aware = ShapeAware(None, 10.0, 5.0, None)
    terms = {
        "overlap": {"loss": Tversky(0.7, 0.3, 1.0), "weight": schedule("constant", 1.0)},
        "border": {"loss": shape_aware, "weight": schedule("constant", 0.5)},
    }
    loss = WeightedSum(terms)
    logits, target = batch(12, 4)
    weights = torch.stack([torch.from_numpy(loss.plane(labels.numpy())) for labels in target])
    torch.testing.assert_close(weights, shape_aware.weights(target))
    torch.testing.assert_close(loss(logits, target, weights), loss(logits, target))
    expected = terms["overlap"]["loss"](logits, target) + 0.5 * shape_aware(
        logits, target, 2 * weights
    )
    torch.testing.assert_close(loss(logits, target, 2 * weights), expected)
    assert "instances" in inspect.signature(loss.plane).parameters
    copied = copy.deepcopy(loss)
    assert copied.plane.__self__ is copied.losses["border"]


def test_a_weighted_sum_of_two_that_take_planes_lets_each_make_its_own():
    first, second = ShapeAware(None, 10.0, 5.0, None), DistancePenalty(None)
    loss = WeightedSum(
        {
            "border": {"loss": first, "weight": schedule("constant", 1.0)},
            "distance": {"loss": second, "weight": schedule("constant", 1.0)},
        }
    )
    logits, target = batch(13, 4)
    assert not hasattr(loss, "plane")
    torch.testing.assert_close(loss(logits, target), first(logits, target) + second(logits, target))


def test_a_weighted_sum_refuses_terms_that_say_nothing():
    term = {"loss": Lovasz(), "weight": "rest"}
    with pytest.raises(ValueError, match="one with weight: rest at most"):
        WeightedSum({"a": term, "b": term})
    with pytest.raises(ValueError, match=r"terms\.a has \['loss'\], expected loss and weight"):
        WeightedSum({"a": {"loss": Lovasz()}})
    with pytest.raises(ValueError, match=r"terms\.a\.weight=rset: must be a schedule, or the word"):
        WeightedSum({"a": {"loss": Lovasz(), "weight": "rset"}})
    with pytest.raises(ValueError, match="at least one"):
        WeightedSum({})
