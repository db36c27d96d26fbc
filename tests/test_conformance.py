"""The card of a loss: ours hold what they promise, and a loss with a fault is found out."""

import os
import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F

from seglab import conformance
from seglab.conformance import Broken, examine
from seglab.losses.overlap import Dice
from tests.conftest import ROOT
from tests.losses.conftest import CASES, built


@pytest.mark.parametrize("case", CASES)
def test_every_loss_of_ours_holds_what_it_promises(case):
    path, channels = case
    findings = list(examine(built(path), channels))
    assert [f for f in findings if f.verdict == "fail"] == []
    assert sum(f.verdict == "pass" for f in findings) >= 10


def dice(logits, target):
    return Dice(1.0)(logits, target)


def learns_from_ignored(z, t):
    return F.cross_entropy(z, t.clamp(max=z.shape[1] - 1))


def sees_the_place(z, t):
    return dice(z * torch.linspace(0.5, 1, z.shape[-1]), t)


def prefers_class_0(z, t):
    return dice(z, t) + 0.1 * z.softmax(1)[:, 1:].mean()


def pays_for_absent(z, t):
    return dice(z, t) - 2 * z.softmax(1)[:, -1].mean() * (t != z.shape[1] - 1).all()


def logarithm_of_zero(z, t):
    return dice(z, t) + z.softmax(1).log().mean() * 1e-9


def sums_in_half(z, t):
    return dice(z, t) + 0 * z.exp().sum().float()


def teaches_nothing(z, t):
    return dice(z, t) + z.mean() * 1e-3


class WrongGradient(torch.autograd.Function):
    @staticmethod
    def forward(_, x):
        return x.clone()

    @staticmethod
    def backward(_, by_x):
        return 1.01 * by_x


def wrong_gradient(z, t):
    return dice(WrongGradient.apply(z), t)


def upside_down(z, t):
    return 1 - dice(z, t)


def has_another_optimum(z, t):
    return dice(z, t) + 1


def flat(z, t):
    return dice(z.flatten(3), t.flatten(2)) if z.ndim == 4 else dice(z, t) * 2


def pools_the_batch(z, t):
    return dice(torch.cat(list(z), -1)[None], torch.cat(list(t), -1)[None])


FAULTS = {
    "ignored": learns_from_ignored,
    "crop": lambda z, t: dice(z, t) * (1 + 0.1 * z.shape[2]),
    "batch": pools_the_batch,
    "permutation": prefers_class_0,
    "mirror": sees_the_place,
    "absent": pays_for_absent,
    "one label": logarithm_of_zero,
    "all ignored": teaches_nothing,
    "half": sums_in_half,
    "extremes": logarithm_of_zero,
    "gradient": wrong_gradient,
    "optimum": upside_down,
    "volume": flat,
}


@pytest.mark.parametrize("name", conformance.CHECKS)
def test_each_check_finds_its_fault(name):
    check = conformance.CHECKS[name]
    check(dice, 4)
    with pytest.raises(Broken):
        check(FAULTS[name], 4)


def test_a_value_away_from_the_declared_optimum_is_told():
    with pytest.raises(Broken, match="the lowest value is 0"):
        conformance.optimum(has_another_optimum, 4)


def card(*arguments):
    return subprocess.run(
        [sys.executable, "scripts/check_loss.py", *arguments],
        cwd=ROOT, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip


def test_the_card_of_a_loss_from_elsewhere_names_what_it_does_not_hold():
    done = card("segmentation_models_pytorch.losses:DiceLoss", "ignore_index=255", "--no-cost")
    assert done.returncode == 1, done.stderr
    assert "fail         batch" in done.stdout
    assert "a batch is not the mean of its images" in done.stdout
    assert "pass         ignored" in done.stdout


def test_the_card_of_ours_says_what_it_costs():
    done = card("weighted_bce", "beta=2")
    assert done.returncode == 0, done.stderr
    assert "not promised classes      it is for binary data sets" in done.stdout
    assert "cost of a megapixel" in done.stdout
    assert "everything holds" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["dits"], "Did you mean dist"),
        (["dist", "distnace=euclidean"], "loss.distnace: there is no such key"),
        (["nowhere:Loss"], "nowhere:Loss: cannot be imported"),
        (["torch.nn:CrossEntropyLoss", "weigth=1"], "cannot be built with {'weigth': 1}"),
    ],
)
def test_a_wrong_target_is_one_message(arguments, says):
    done = card(*arguments)
    assert done.returncode == 1
    assert says in done.stderr
    assert "Traceback" not in done.stderr
