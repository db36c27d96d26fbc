"""The one pass over the logits that the losses share."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from seglab.losses import sums as sums_module
from seglab.losses.pointwise import cost, slope
from seglab.losses.sums import gradient_of_batch, soft_sums, sums_of_batch

from . import reference
from .batches import IGNORE, batch

FIELDS = ("inside", "outside", "truth", "pointwise", "valid")


def textbook(logits, target, weights, gamma):
    """The fields of Sums from dense masks."""
    y, p, valid = reference.truth_and_probability(logits, target)
    w = (weights.flatten(1).unsqueeze(1) if weights is not None else 1) * valid
    z = logits.flatten(2)
    if z.shape[1] == 1:
        log_q = torch.nn.functional.logsigmoid(torch.where(y == 1, z, -z))
    else:
        log_q = (y * z.log_softmax(1)).sum(1, keepdim=True)
    log_q = torch.where(valid, log_q, -1.0)
    pointwise = 0 * w * log_q
    if gamma is not None:
        pointwise = -w * (1 - log_q.exp()) ** gamma * log_q
    return (
        (w * y * p).sum(2),
        (p * (1 - y)).sum(2),
        (w * y).sum(2),
        pointwise.sum((1, 2)),
        valid.sum((1, 2)),
    )


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    channels=st.integers(1, 6),
    shape=st.sampled_from([(1, 1), (1, 9), (7, 1), (6, 8), (3, 4, 5)]),
    gamma=st.sampled_from([None, 0.0, 0.5, 1.0, 2.0, 3.5]),
    weighted=st.booleans(),
    numbers_per_piece=st.sampled_from([1, 16, 300, 2**19]),
)
def test_sums_and_gradient_are_those_of_the_textbook(
    seed, channels, shape, gamma, weighted, numbers_per_piece
):
    logits, target = batch(seed, channels, shape)
    logits = logits.double().requires_grad_()
    weights = torch.rand(target.shape, dtype=torch.float64) if weighted else None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sums_module, "NUMBERS_PER_PIECE", numbers_per_piece)
        found = soft_sums(logits, target, weights, gamma)
        expected = textbook(logits, target, weights, gamma)
        for name, value in zip(FIELDS, expected, strict=True):
            torch.testing.assert_close(getattr(found, name), value.double(), msg=name)
        factors = [torch.randn_like(found.inside), torch.randn_like(found.outside)]
        factors.append(torch.randn_like(found.pointwise))
        chosen = [(found.inside, expected[0]), (found.outside, expected[1])]
        chosen.append((found.pointwise, expected[3]))
        for names in ([0], [1], [2], [0, 1], [0, 1, 2]):  # what a loss may use
            gradients = [
                torch.autograd.grad(
                    sum((factors[i] * chosen[i][side]).sum() for i in names),
                    logits,
                    retain_graph=True,
                )[0]
                for side in (0, 1)
            ]
            torch.testing.assert_close(*gradients, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("scale", [1.0, 8.0])
@pytest.mark.parametrize("channels", [1, 19])
def test_float32_gradient_is_within_5e_6_of_float64_at_full_size(channels, scale):
    logits, target = batch(0, channels, (512, 512), images=1, scale=scale)
    weights = torch.rand(target.shape)

    def gradient(z):
        z = z.clone().requires_grad_()
        sums = soft_sums(z, target, weights.to(z.dtype), gamma=2.0)
        ratio = (sums.inside / (sums.truth + sums.outside)).mean()
        return torch.autograd.grad(ratio + sums.pointwise.sum() / sums.valid.sum(), z)[0]

    exact = gradient(logits.double())
    error = (gradient(logits).double() - exact).abs().max() / exact.abs().max()
    assert error < 5e-6


def test_nothing_is_kept_for_the_backward_pass_but_the_inputs():
    logits, target = batch(0, 4)
    logits.requires_grad_()
    kept = []

    def keep(tensor):
        kept.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        soft_sums(logits, target, gamma=2.0)
    assert {tensor.data_ptr() for tensor in kept} <= {logits.data_ptr(), target.data_ptr()}


def test_channels_last_logits_get_a_channels_last_gradient():
    logits, target = batch(0, 4)
    logits = logits.contiguous(memory_format=torch.channels_last).requires_grad_()
    (gradient,) = torch.autograd.grad(soft_sums(logits, target).inside.sum(), logits)
    assert gradient.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("channels", [1, 4])
def test_sure_predictions_have_no_false_positives_left_by_rounding(channels):
    # The true class's probability rounds to 1, the others' are tiny: mass minus hits would be
    # noise of about 1e-7 per pixel, or negative.
    _, target = batch(0, max(channels, 2), (64, 64), images=1, ignored=0.0)
    target = target if channels > 1 else target.clamp(max=1)
    logits = torch.full((1, channels, 64, 64), -40.0)
    if channels == 1:
        logits[target.unsqueeze(1) == 1] = 40.0
    else:
        logits.scatter_(1, target.unsqueeze(1), 40.0)
    outside = soft_sums(logits, target).outside
    assert (outside > 0).all()
    assert outside.max() < 1e-10


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0])
def test_slope_is_the_derivative_of_cost_and_finite_at_both_ends(gamma):
    log_q = torch.tensor([-20.0, -3.0, -1.0, -0.1], dtype=torch.float64, requires_grad=True)
    (expected,) = torch.autograd.grad(cost(log_q, gamma).sum(), log_q)
    torch.testing.assert_close(slope(log_q, gamma), expected)
    ends = torch.tensor([0.0, -1e-8, -1e30])
    assert slope(ends, gamma).isfinite().all()
    assert cost(ends, gamma).isfinite().all()


@pytest.mark.parametrize("channels", [1, 4])
def test_operators_describe_themselves_correctly_to_torch_compile(channels):
    logits, target = batch(0, channels)
    flat, labels = logits.flatten(2), target.flatten(1)
    checks = ("test_schema", "test_faketensor")
    torch.library.opcheck(sums_of_batch, (flat, labels, None, 2.0), test_utils=checks)
    table = torch.ones(flat.shape[:2])
    arguments = (flat, labels, None, 2.0, table, None, torch.ones(len(flat)))
    torch.library.opcheck(gradient_of_batch, arguments, test_utils=checks)


def test_compiles_without_a_graph_break():
    def ratio(z, target):
        sums = soft_sums(z, target, gamma=0.0)
        return (sums.inside / (sums.truth + sums.outside + 1)).sum() + sums.pointwise.sum()

    logits, target = batch(0, 4)
    logits.requires_grad_()
    compiled = torch.compile(ratio, backend="aot_eager", fullgraph=True)
    (expected,) = torch.autograd.grad(ratio(logits, target), logits)
    (found,) = torch.autograd.grad(compiled(logits, target), logits)
    torch.testing.assert_close(found, expected)


def test_shapes_that_do_not_fit_are_named():
    logits, target = batch(0, 4)
    with pytest.raises(ValueError, match=r"target \(3, 12, 16\)"):
        soft_sums(logits, target[:, :, :16])
    with pytest.raises(ValueError, match=r"weights \(2, 12, 17\)"):
        soft_sums(logits, target, torch.ones(2, 12, 17))


def test_a_label_outside_the_classes_is_an_error():
    logits, target = batch(0, 4, ignored=0.0)
    target[0, 0, 0] = 4
    with pytest.raises(RuntimeError, match="out of bounds"):
        soft_sums(logits, target)


def test_ignored_pixels_enter_no_sum():
    logits, target = batch(0, 4)
    sums = soft_sums(logits, torch.full_like(target, IGNORE), gamma=0.0)
    assert all((field == 0).all() for field in sums)
