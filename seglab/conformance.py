"""What a loss should hold, as checks that end in a counter-example. For any `loss(logits, target)`.

A check is a function of (loss, channels) that returns what it saw ("" where there is nothing to
say) and raises `Broken` with the counter-example. Errors that the loss raises are counter-examples
too. channels is C: 1 is the binary task. Inputs are drawn from fixed seeds.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor
from torch.autograd.gradcheck import GradcheckError

from seglab.ops import IGNORE

Loss = Callable[[Tensor, Tensor], Tensor]
LARGEST_HALF = 6e4
SMALLEST_HALF = 6e-8  # what a half-precision number near 0 is rounded to
FULL_SIDE = 512


class Broken(AssertionError):
    """A promise that does not hold; the message is the counter-example."""


@dataclass(frozen=True)
class Finding:
    """How one check of one task ended."""

    check: str
    channels: int
    verdict: str  # pass | fail | not promised
    said: str

    @property
    def promise(self) -> str:
        """What the check looks for, in one sentence."""
        check = CHECKS.get(self.check)
        return (check.__doc__ or "").split("\n")[0] if check else "It is for any number of classes."


def is_for(loss: Loss, channels: int) -> bool:
    """Whether the loss is made for so many channels: some are for the binary task alone."""
    return channels == 1 or "classes" not in getattr(loss, "not_promised", {})


def examine(loss: Loss, channels: int) -> Iterator[Finding]:
    """Every check, in order. What a loss does not promise it says by `loss.not_promised`."""
    excused = getattr(loss, "not_promised", {})
    if not is_for(loss, channels):
        yield Finding("classes", channels, "not promised", excused["classes"])
        return
    for name, check in CHECKS.items():
        if name in excused:
            yield Finding(name, channels, "not promised", excused[name])
            continue
        if name == "permutation" and channels == 1:
            yield Finding(name, channels, "not promised", "one class: there is nothing to rename")
            continue
        try:
            said = check(loss, channels)
        except Broken as broken:
            yield Finding(name, channels, "fail", str(broken))
        except Exception as error:  # whatever a loss raises
            text = str(error).strip().splitlines()
            reason = f"{type(error).__name__}: {text[0] if text else ''}"
            yield Finding(name, channels, "fail", f"it raises {reason}")
        else:
            yield Finding(name, channels, "pass", said)


# ---------------------------------------------------------------- inputs


def draw(
    seed: int, channels: int, side: int = 16, images: int = 3, ignored: float = 0.15
) -> tuple[Tensor, Tensor]:
    """float32 logits (B, C, side, side + 3), int64 target of smooth regions; some are ignored."""
    rng = np.random.default_rng(seed)
    shape = (images, side, side + 3)
    fields = rng.standard_normal((max(channels, 2), *shape))
    target = ndimage.gaussian_filter(fields, (0, 0, side / 8, side / 8)).argmax(axis=0)
    target[rng.random(shape) < ignored] = IGNORE
    logits = 2 * rng.standard_normal((images, channels, *shape[1:]))
    return torch.from_numpy(logits).float(), torch.from_numpy(target)


def answer(target: Tensor, channels: int, height: float) -> Tensor:
    """Logits that give each pixel's label +height and every other label -height."""
    known = target.masked_fill(target == IGNORE, 0)
    if channels == 1:
        return ((known == 1).float() * 2 - 1).unsqueeze(1) * height
    labels = torch.arange(channels).view(1, -1, 1, 1)
    return ((known.unsqueeze(1) == labels).float() * 2 - 1) * height


def judged(loss: Loss, logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Value and gradient. Broken where the value is no scalar, or either is not finite."""
    logits = logits.detach().clone().requires_grad_()
    value = loss(logits, target)
    if not isinstance(value, Tensor) or value.shape != ():
        raise Broken(f"it returns {getattr(value, 'shape', type(value).__name__)}, not a scalar")
    (gradient,) = torch.autograd.grad(value, logits)
    if not value.isfinite():
        raise Broken(f"the value is {float(value.detach())}")
    if not gradient.isfinite().all():
        raise Broken("the gradient is not finite")
    return value.detach(), gradient


def require_same(
    found: tuple[Tensor, Tensor], wanted: tuple[Tensor, Tensor], what: str, tolerance: float = 1e-5
) -> None:
    """Broken where two values, or by ten times the tolerance their gradients, are `_far` apart."""
    if _far(found[0], wanted[0], tolerance):
        raise Broken(f"{what}: the value is {found[0]:.6g}, expected {wanted[0]:.6g}")
    if _far(found[1], wanted[1], 10 * tolerance):
        gap, size = (found[1] - wanted[1]).abs().max(), wanted[1].abs().max()
        raise Broken(f"{what}: the gradient is off by {gap:.3g}, its largest entry is {size:.3g}")


def _far(found: Tensor, wanted: Tensor, tolerance: float) -> bool:
    """Whether some entry differs by more than `tolerance` of the largest one."""
    size = float(wanted.double().abs().max())
    gap = float((found.double() - wanted.double()).abs().max())
    return not gap <= tolerance * max(size, 1e-6)


# ---------------------------------------------------------------- checks


def ignored_pixels(loss: Loss, channels: int) -> str:
    """Logits of ignored pixels change neither the value nor the gradient."""
    logits, target = draw(1, channels, ignored=0.3)
    away = (target == IGNORE).unsqueeze(1)
    value, gradient = judged(loss, logits, target)
    other = judged(loss, logits.masked_fill(away, 30.0), target)
    require_same(other, (value, gradient), "with other logits at ignored pixels", 1e-6)
    if (gradient * away != 0).any():
        raise Broken("ignored pixels have a gradient")
    return ""


def crop(loss: Loss, channels: int) -> str:
    """Ignoring the upper half is cutting it off."""
    logits, target = draw(2, channels, ignored=0.1)
    half = target.clone()
    half[:, :8] = IGNORE
    given = _planes(loss, half)
    value, gradient = judged(given(slice(None)), logits, half)
    cut = judged(given(slice(8, None)), logits[:, :, 8:], target[:, 8:])
    require_same((value, gradient[:, :, 8:]), cut, "ignoring the upper half is not cutting it off")
    return ""


def _planes(loss: Loss, target: Tensor) -> Callable[[slice], Loss]:
    """The loss with the weights that it gives the whole target, of some rows alone."""
    if not hasattr(loss, "plane"):
        return lambda rows: loss  # noqa: ARG005
    made = torch.from_numpy(np.stack([loss.plane(labels.numpy()) for labels in target]))
    return lambda rows: lambda logits, labels: loss(logits, labels, made[:, rows])


def one_by_one(loss: Loss, channels: int) -> str:
    """A batch without ignored pixels is the mean of its images."""
    logits, target = draw(3, channels, ignored=0.0)
    whole = judged(loss, logits, target)
    alone = [judged(loss, logits[i : i + 1], target[i : i + 1]) for i in range(len(target))]
    values, gradients = zip(*alone, strict=True)
    mean = torch.stack(values).mean(), torch.cat(gradients) / len(alone)
    require_same(whole, mean, "a batch is not the mean of its images")
    return ""


def permutation(loss: Loss, channels: int) -> str:
    """The classes may be renamed."""
    logits, target = draw(4, channels, ignored=0.0)
    plain = judged(loss, logits, target)
    labels = torch.arange(channels)
    for order in (labels.roll(1), torch.cat([labels[:2].flip(0), labels[2:]])):
        value, gradient = judged(loss, logits[:, order.argsort()], order[target])
        names = ", ".join(str(label) for label in order.tolist())
        what = f"with the classes {', '.join(map(str, labels.tolist()))} renamed {names}"
        require_same((value, gradient[:, order]), plain, what)
    return ""


def mirror(loss: Loss, channels: int) -> str:
    """A mirrored image has the same loss."""
    logits, target = draw(5, channels, ignored=0.0)
    plain = judged(loss, logits, target)
    for axis, word in ((-1, "left to right"), (-2, "upside down")):
        value, gradient = judged(loss, logits.flip(axis), target.flip(axis))
        require_same((value, gradient.flip(axis)), plain, f"mirrored {word}")
    return ""


def absent_class(loss: Loss, channels: int) -> str:
    """A class that is not there is finite, and predicting it does not pay."""
    logits, target = draw(6, channels, ignored=0.0)
    last = max(channels, 2) - 1
    target = torch.where(target == last, 0, target)
    judged(loss, logits, target)
    values = []
    for predicted in (False, True):
        sure = answer(target, channels, 4.0)
        if predicted:
            sure[:, -1] = 6.0
        values.append(float(judged(loss, sure, target)[0]))
    if values[1] < values[0]:
        raise Broken(f"predicting a class that is not there: {values[1]:.6g} < {values[0]:.6g}")
    return ""


def empty_and_full(loss: Loss, channels: int) -> str:
    """Masks of one label are finite, however sure the prediction."""
    logits, target = draw(7, channels, ignored=0.0)
    for label in (0, 1):
        alone = torch.full_like(target, label)
        for z in (logits, answer(alone, channels, 100.0), answer(alone, channels, -100.0)):
            try:
                judged(loss, z, alone)
            except Broken as broken:
                raise Broken(f"a mask of label {label} alone: {broken}") from None
    return ""


def all_ignored(loss: Loss, channels: int) -> str:
    """A batch, or an image beside others, of ignored pixels is finite and teaches nothing."""
    logits, target = draw(8, channels)
    for images, what in ((slice(None), "a batch"), (slice(1), "an image beside others")):
        given = target.clone()
        given[images] = IGNORE
        try:
            _, gradient = judged(loss, logits, given)
        except Broken as broken:
            raise Broken(f"{what} of ignored pixels: {broken}") from None
        if (gradient[images] != 0).any():
            raise Broken(f"{what} of ignored pixels has a gradient")
    return ""


def half(loss: Loss, channels: int) -> str:
    """Half-precision logits give what the same numbers in single precision give."""
    logits, target = draw(9, channels, FULL_SIDE, images=1, ignored=0.0)
    logits, target = logits[..., :FULL_SIDE], target[..., :FULL_SIDE]
    short = logits.half()
    what = f"{FULL_SIDE} x {FULL_SIDE} in half precision"
    value, gradient = judged(loss, short.float(), target)
    try:
        found, found_gradient = judged(loss, short, target)
    except Broken as broken:
        raise Broken(f"{what}: {broken}") from None
    if _far(found, value, 1e-3):
        raise Broken(f"{what}: the value is {found:.6g}, in single precision {value:.6g}")
    gap = (found_gradient.float() - gradient).abs()
    if (gap > 4e-3 * gradient.abs() + SMALLEST_HALF).any():
        raise Broken(f"{what}: the gradient is off by {gap.max():.3g}")
    return ""


def extremes(loss: Loss, channels: int) -> str:
    """Logits of +-60000 are finite in half precision, right, wrong or at random."""
    logits, target = draw(10, channels, ignored=0.0)
    right = answer(target, channels, 1.0)
    for signs, word in ((right, "right"), (-right, "wrong"), (logits.sign(), "at random")):
        try:
            judged(loss, (signs * LARGEST_HALF).half(), target)
        except Broken as broken:
            raise Broken(f"logits of +-{LARGEST_HALF:.0f}, {word}: {broken}") from None
    return ""


def gradient(loss: Loss, channels: int) -> str:
    """The gradient is the derivative.

    A loss that computes in single precision whatever it is given is held to 2 %.
    """
    logits, target = draw(11, channels, side=4, images=2, ignored=0.0)
    value, found = judged(loss, logits.double(), target)
    exact = value.dtype == torch.float64
    step, relative, absolute = (1e-6, 1e-3, 1e-5) if exact else (1e-2, 2e-2, 1e-4)
    try:
        torch.autograd.gradcheck(
            lambda z: loss(z, target),
            logits.double().requires_grad_(),
            eps=step,
            rtol=relative,
            atol=absolute,
        )
    except GradcheckError:
        slopes = _slopes(loss, logits.double(), target, step)
        gap = (found - slopes).abs() - relative * slopes.abs()
        place = tuple(int(i) for i in np.unravel_index(int(gap.argmax()), gap.shape))
        raise Broken(
            f"the slope by the logit at {place} is {float(slopes[place]):.6g}, "
            f"the gradient says {float(found[place]):.6g}"
        ) from None
    return "" if exact else "to 2 %: it computes in single precision"


def _slopes(loss: Loss, logits: Tensor, target: Tensor, step: float) -> Tensor:
    """Central differences by each logit."""
    slopes = torch.empty_like(logits)
    with torch.no_grad():
        for place in range(logits.numel()):
            move = torch.zeros_like(logits)
            move.view(-1)[place] = step
            rise = loss(logits + move, target).double() - loss(logits - move, target).double()
            slopes.view(-1)[place] = rise / (2 * step)
    return slopes


def optimum(loss: Loss, channels: int) -> str:
    """The truth costs less than doubt and than wrong answers, and is near the lowest value.

    The lowest value is `loss.optimum`: 0 where a loss does not say, None where it is no one number.
    A truth that is less sure may lie above it, and none below.
    """
    _, target = draw(12, channels, ignored=0.0)
    labels = max(channels, 2)
    others = {"every label taken for the next": (target + 1) % labels}
    others["the truth four columns aside"] = target.roll(4, -1)
    for label in range(labels):
        others[f"label {label} everywhere"] = torch.full_like(target, label)
    right = float(judged(loss, answer(target, channels, 10.0), target)[0])
    doubt = float(judged(loss, answer(target, channels, 0.0), target)[0])
    costs = {"doubt": doubt} | {
        what: float(judged(loss, answer(wrong, channels, 10.0), target)[0])
        for what, wrong in others.items()
    }
    best = min(costs, key=costs.__getitem__)
    if not right < costs[best]:
        raise Broken(f"the truth costs {right:.6g}, {best} {costs[best]:.6g}")
    lowest = getattr(loss, "optimum", 0.0)
    if lowest is None:
        return f"the truth costs {right:.3g}; the loss names no lowest value"
    size = max(1.0, abs(doubt - lowest))
    if not math.isclose(right, lowest, abs_tol=1e-2 * size):
        raise Broken(f"the truth costs {right:.6g}, and the lowest value is {lowest:g}")
    sure = {
        height: float(judged(loss, answer(target, channels, height), target)[0])
        for height in (1.0, 2.0, 5.0, 10.0)
    }
    height = min(sure, key=sure.__getitem__)
    if sure[height] < lowest - 1e-6 * size:
        raise Broken(
            f"the truth with logits of +-{height:g} costs {sure[height]:.6g}, "
            f"below the lowest value, {lowest:g}"
        )
    if right == lowest:
        return f"the truth costs {right:.3g}, the lowest value"
    gap = f"{abs(right - lowest):.2g} {'above' if right > lowest else 'below'}"
    return f"the truth costs {right:.3g}, {gap} the lowest value, {lowest:g}"


def volume(loss: Loss, channels: int) -> str:
    """A volume of one slice is the image."""
    logits, target = draw(13, channels, ignored=0.0)
    plain = judged(loss, logits, target)
    value, gradient = judged(loss, logits.unsqueeze(2), target.unsqueeze(1))
    require_same((value, gradient.squeeze(2)), plain, "as a volume of one slice")
    return ""


CHECKS: dict[str, Callable[[Loss, int], str]] = {
    "ignored": ignored_pixels,
    "crop": crop,
    "batch": one_by_one,
    "permutation": permutation,
    "mirror": mirror,
    "absent": absent_class,
    "one label": empty_and_full,
    "all ignored": all_ignored,
    "half": half,
    "extremes": extremes,
    "gradient": gradient,
    "optimum": optimum,
    "volume": volume,
}
