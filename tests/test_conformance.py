"""The card of a loss: ours hold what they promise, and a loss with a fault is found out."""

import re
import sys

import pytest
import torch
import torch.nn.functional as F

from seglab import config, conformance
from seglab.conformance import Broken, examine
from seglab.losses.cross_entropy import ConfidencePenalty
from seglab.losses.overlap import Dice
from seglab.ops import IGNORE
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


def test_a_truth_below_the_declared_lowest_value_is_told():
    def rewards_doubt(z, t):  # declares no lowest value, which means 0
        return ConfidencePenalty(0.5)(z, t)

    for channels in (1, 4):
        below = r"the truth with logits of \+-[12] costs -0\.\d+, below the lowest value, 0"
        with pytest.raises(Broken, match=below):
            conformance.optimum(rewards_doubt, channels)
        said = conformance.optimum(ConfidencePenalty(0.5), channels)
        assert said.endswith("the loss names no lowest value")
        assert "the lowest value" in conformance.optimum(ConfidencePenalty(0.0), channels)


def own_mean_of_each_image(z, t):
    valid = t != IGNORE
    if not valid.any():
        return z.sum() * 0
    cost = F.cross_entropy(z, t, ignore_index=IGNORE, reduction="none")
    return (cost.flatten(1).sum(1) / valid.flatten(1).sum(1)).mean()


def moves_ignored_images(z, t):
    valid = (t != IGNORE).flatten(1).any(1)
    return dice(z, t) + 1e-3 * (z.mean((1, 2, 3)) * ~valid).sum() * valid.any()


def test_an_ignored_image_beside_others_is_tried():
    with pytest.raises(Broken, match="an image beside others of ignored pixels: the value is nan"):
        conformance.all_ignored(own_mean_of_each_image, 4)
    with pytest.raises(Broken, match="an image beside others of ignored pixels has a gradient"):
        conformance.all_ignored(moves_ignored_images, 4)


def leaks_from_ignored(z, t):
    away = (t == IGNORE).unsqueeze(1)
    return (z * ~away).sum() * (z * away).sum().detach()


# what is added to the gradient alone; the value stays Dice's
GRADIENT_FAULTS = {
    "ignored": leaks_from_ignored,
    "crop": lambda z, _: z.sum() * z.shape[2],
    "batch": lambda z, _: z.sum(),
    "permutation": lambda z, _: z[:, 2].sum(),
    "mirror": lambda z, _: (z * torch.linspace(0, 1, z.shape[2])[:, None]).sum(),
    "volume": lambda z, _: z.sum() * (z.ndim == 5),
}


@pytest.mark.parametrize("name", GRADIENT_FAULTS)
def test_a_fault_of_the_gradient_alone_is_found(name):
    def loss(z, t):
        extra = GRADIENT_FAULTS[name](z, t) * 1e-3
        return dice(z, t) + (extra - extra.detach())

    with pytest.raises(Broken, match="the gradient is off by"):
        conformance.CHECKS[name](loss, 4)


def test_large_logits_are_tried_right_wrong_and_at_random():
    def overflows_where_all_classes_are_sure(z, t):
        return dice(z, t) + 0 * z.float().sum(1).abs().max().pow(7.3)

    with pytest.raises(Broken, match=r"logits of \+-60000, at random: the value is nan"):
        conformance.extremes(overflows_where_all_classes_are_sure, 4)


def test_a_counter_example_has_both_values():
    with pytest.raises(Broken, match=r"the value is 0\.\d+, expected 0\.\d+"):
        conformance.one_by_one(pools_the_batch, 4)
    with pytest.raises(
        Broken, match=r"the slope by the logit at \(\d, \d, \d, \d\) is -?\d.* says"
    ):
        conformance.gradient(wrong_gradient, 4)


def test_a_loss_that_computes_in_single_precision_has_no_wrong_gradient():
    def single(z, t):
        return dice(z.float(), t)

    assert "2 %" in conformance.gradient(single, 4)
    with pytest.raises(Broken):
        conformance.gradient(lambda z, t: dice(z.float() - 0.5 * z.float().detach(), t), 4)


def test_the_truth_is_held_against_each_kind_of_wrong_answer():
    def likes_a_shift(z, t):
        return dice(z, t.roll(4, -1))

    def likes_label_2(z, t):
        return dice(z, torch.full_like(t, 2))

    with pytest.raises(Broken, match="the truth four columns aside 0"):
        conformance.optimum(likes_a_shift, 4)
    with pytest.raises(Broken, match="label 2 everywhere 0"):
        conformance.optimum(likes_label_2, 4)


def test_how_near_the_truth_is_to_the_lowest_value_is_said():
    assert conformance.optimum(dice, 1).endswith("above the lowest value, 0")
    rounded = conformance.optimum(lambda z, t: dice(z, t).round(), 4)
    assert rounded == "the truth costs 0, the lowest value"


def test_every_check_of_a_card_has_a_verdict():
    for channels in (1, 4):
        found = [finding.check for finding in conformance.examine(Dice(1.0), channels)]
        assert found == list(conformance.CHECKS)


# ---------------------------------------------------------------- the command


@pytest.fixture
def card(monkeypatch, capsys):
    """card(argument, ...): exit code, stdout and stderr of scripts/check_loss.py, in this process.

    To measure memory it starts itself in another one.
    """
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(torch, "set_num_threads", lambda _: None)
    import check_loss

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["check_loss.py", *arguments])
        try:
            code = config.guarded(check_loss.guarded, list(arguments))
        except SystemExit as end:
            code = end.code
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


def test_arguments_reach_a_loss_from_elsewhere(card):
    arguments = ("segmentation_models_pytorch.losses:DiceLoss", "ignore_index=255")
    code, said, _ = card(*arguments, "--no-cost", "--task", "binary")
    assert code == 1
    assert "pass         ignored" in said
    assert "fail         batch        a batch is not the mean of its images" in said


def test_a_task_can_be_left_out(card):
    code, said, _ = card("dice", "--no-cost", "--task", "multiclass")
    assert code == 0
    assert said.startswith("dice, 4 classes\n")
    assert "binary" not in said


@pytest.mark.parametrize("arguments", [["theirs_by_name:MyLoss", "smooth=1.0"], ["mine.yaml"]])
def test_a_loss_in_the_current_folder_is_found(card, monkeypatch, tmp_path, arguments):
    source = "from seglab.losses.overlap import Dice\n\n\nclass MyLoss(Dice):\n    pass\n"
    for module in ("theirs_by_name", "theirs_by_file"):
        (tmp_path / f"{module}.py").write_text(source, encoding="utf-8")
    description = "_target_: theirs_by_file.MyLoss\nsmooth: 1.0\n"
    (tmp_path / "mine.yaml").write_text(description, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    code, said, message = card(*arguments, "--no-cost", "--task", "binary")
    assert (code, message) == (0, "")
    assert said.startswith(f"{arguments[0]}, binary\n")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["dits"], "Did you mean dist"),
        (["dist", "distnace=euclidean"], "loss.distnace: there is no such key"),
        (["nowhere:Loss"], "nowhere:Loss: cannot be imported"),
        (["torch.nn:CrossEntropyLoss", "weigth=1"], "cannot be built with {'weigth': 1}"),
        (["nowhere.yaml"], "nowhere.yaml: there is no such file"),
    ],
)
def test_a_wrong_target_is_one_message(card, arguments, says):
    code, _, message = card(*arguments)
    assert code == 1
    assert says in message


# ---------------------------------------------------------------- docs/losses.md

PAGE = ROOT / "docs" / "losses.md"
CARDS = re.findall(r"```\n\$ python scripts/check_loss\.py (.+)\n((?:.+\n)+)```", PAGE.read_text())
NUMBER = re.compile(r"-?\d+(?:\.\d+)?(?:e[-+]\d+)?")


def without_cost(lines):
    return "\n".join(line for line in lines.splitlines() if "cost of a megapixel" not in line)


@pytest.mark.parametrize(("command", "shown"), CARDS, ids=[command for command, _ in CARDS])
def test_the_cards_in_the_docs_are_what_the_command_prints(card, command, shown):
    code, said, message = card(*command.split(), "--no-cost")
    assert message == ""
    assert code == int(" fail " in said)
    shown, said = without_cost(shown), without_cost(said)
    assert NUMBER.sub("#", said) == NUMBER.sub("#", shown)
    found, printed = ([float(n) for n in NUMBER.findall(text)] for text in (said, shown))
    # the last digits may differ between processors
    assert found == pytest.approx(printed, rel=0.05, abs=1e-6)


def test_the_docs_show_the_card_of_a_loss_of_smp_and_of_one_of_monai():
    commands = " ".join(command for command, _ in CARDS)
    assert "segmentation_models_pytorch" in commands
    assert "monai" in commands
    assert all("cost of a megapixel" in shown for _, shown in CARDS)


def test_the_card_of_ours_says_what_it_costs(card):
    code, said, message = card("weighted_bce", "beta=2")
    assert (code, message) == (0, "")
    assert "not promised classes      it is for binary data sets" in said
    costs = r"cost of a megapixel, one thread: [\d.]+ ms and \d+ MiB; .+ [\d.]+ ms and \d+ MiB\n"
    assert re.search(costs, said)
    assert said.endswith("everything holds\n")
