"""What is measured in every epoch beside the counts is what scikit-learn says of all the pixels."""

import math
import pickle

import numpy as np
import pytest
import torch
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    balanced_accuracy_score,
    roc_auc_score,
)

from seglab.errors import ConfigError
from seglab.metrics import mahd
from seglab.metrics.further import NAMES, Further, log_odds
from seglab.ops import IGNORE, predicted_labels

CPU = torch.device("cpu")
CASES = {"binary": (1, (12, 14)), "four": (4, (12, 14)), "volumes": (3, (3, 6, 8))}
IMAGES = 7


def judged(num_classes, shape, confidence=1.0):
    """logits, predicted, target of IMAGES images that a network half understands."""
    generator = torch.Generator().manual_seed(num_classes)
    target = torch.randint(0, max(num_classes, 2), (IMAGES, *shape), generator=generator)
    logits = torch.randn(IMAGES, num_classes, *shape, generator=generator)
    for place in range(num_classes):
        logits[:, place] += 1.5 * (target == (1 if num_classes == 1 else place))
    logits[:, 0] -= 0.5
    target[torch.rand(target.shape, generator=generator) < 0.1] = IGNORE
    logits *= confidence
    return logits, predicted_labels(logits), target


def added(num_classes, names, *batches):
    further = Further(num_classes, names)
    further.start(CPU)
    for batch in batches:
        further.add(*batch)
    return further


def result(num_classes, names, *batches):
    further = added(num_classes, names, *batches)
    return further.result([further.share()])


@pytest.fixture(params=CASES)
def case(request):
    num_classes, shape = CASES[request.param]
    return num_classes, judged(num_classes, shape)


def test_shares_of_pixels_are_scikit_learns(case):
    num_classes, batch = case
    known = batch[2] != IGNORE
    truth, found = batch[2][known], batch[1][known]
    assert result(num_classes, ["ba", "accuracy"], batch) == pytest.approx(
        {"ba": balanced_accuracy_score(truth, found), "accuracy": accuracy_score(truth, found)},
        rel=1e-12,
    )


@pytest.mark.parametrize("confidence", [0.1, 1.0, 10.0])
@pytest.mark.parametrize("name", CASES)
def test_rankings_are_scikit_learns(name, confidence):
    num_classes, shape = CASES[name]
    logits, predicted, target = judged(num_classes, shape, confidence)
    known = target != IGNORE
    truth = target[known].numpy()
    scores = [s[known].numpy() for s in log_odds(logits.double())]
    labels = [1] if num_classes == 1 else range(num_classes)
    expected = {
        "auc": np.mean([roc_auc_score(truth == c, s) for c, s in zip(labels, scores, strict=True)]),
        "ap": np.mean(
            [average_precision_score(truth == c, s) for c, s in zip(labels, scores, strict=True)]
        ),
    }
    found = result(num_classes, ["auc", "ap"], (logits, predicted, target))
    assert found == pytest.approx(expected, abs=1e-4)
    if num_classes > 1 and confidence == 1:
        p = logits.double().softmax(1).movedim(1, -1)[known]
        one_against_rest = roc_auc_score(truth, p / p.sum(1, keepdim=True), multi_class="ovr")
        assert found["auc"] == pytest.approx(one_against_rest, abs=1e-4)


def test_confident_scores_are_not_taken_for_equal():
    # in float32 all of these probabilities are 1
    logits = torch.linspace(30, 60, 10000).view(1, 1, 100, 100)
    target = (torch.arange(10000) > 7000).long().view(1, 100, 100)
    found = result(1, ["auc"], (logits, torch.ones_like(target), target))
    assert found["auc"] == pytest.approx(1, abs=1e-2)
    two = torch.cat([logits * 0, logits], dim=1)
    twofold = result(2, ["auc"], (two, torch.ones_like(target), target))
    assert twofold["auc"] == pytest.approx(1, abs=1e-2)


def test_log_odds_are_those_of_the_probabilities():
    logits = torch.randn(2, 5, 6, 7, generator=torch.Generator().manual_seed(0)).double()
    p = logits.softmax(1)
    torch.testing.assert_close(torch.stack(list(log_odds(logits)), 1), (p / (1 - p)).log())
    assert next(log_odds(logits[:, :1])).equal(logits[:, 0])
    assert next(log_odds(logits.half())).dtype == torch.float32


def test_mahd_is_the_mean_over_images_and_classes(case):
    num_classes, (logits, predicted, target) = case
    known = target != IGNORE
    expected = [
        mahd.modified_average_hausdorff((p == label) & k, (t == label) & k)
        for label in ([1] if num_classes == 1 else range(num_classes))
        for p, t, k in zip(predicted, target, known, strict=True)
    ]
    found = result(num_classes, ["mahd"], (logits, predicted, target))
    assert found == pytest.approx({"mahd": np.mean(expected), "mahd_misses": 0}, rel=1e-12)


def test_a_miss_is_counted_beside_the_mean_and_nothing_at_all_is_not():
    target = torch.zeros(4, 6, 6, dtype=torch.int64)
    predicted = target.clone()
    target[0, 2, 2] = predicted[0, 2, 5] = 1  # 3 pixels apart
    target[1, 3, 3] = 1  # missed
    predicted[2, 3, 3] = 1  # of nothing
    logits = torch.zeros(4, 1, 6, 6)
    found = result(1, ["mahd"], (logits, predicted, target))
    assert found == {"mahd": 3.0, "mahd_misses": 2.0}
    found = result(1, ["mahd"], (logits[1:], predicted[1:], target[1:]))
    assert math.isnan(found["mahd"])
    assert found["mahd_misses"] == 2


@pytest.mark.parametrize(
    "cuts", [[0, 7], [0, 1, 7], [0, 3, 3, 7], [0, 1, 2, 3, 4, 5, 6, 7]], ids=str
)
def test_any_number_of_processes_says_what_one_says(case, cuts):
    num_classes, batch = case
    expected = result(num_classes, list(NAMES), batch)
    shares = []
    for start, end in zip(cuts, cuts[1:], strict=False):
        middle = (start + end) // 2
        parts = [tuple(t[s] for t in batch) for s in (slice(start, middle), slice(middle, end))]
        further = added(num_classes, list(NAMES), *parts)
        shares.append(pickle.loads(pickle.dumps(further.share())))
    assert further.result(shares) == expected
    assert further.result(shares[::-1]) == expected


def test_ignored_pixels_are_as_if_cut_away(case):
    num_classes, (logits, predicted, target) = case
    target = target.clone()
    half = target.shape[-1] // 2
    target[..., :half] = IGNORE
    cut = (logits[..., half:], predicted[..., half:], target[..., half:])
    whole = result(num_classes, list(NAMES), (logits, predicted, target))
    assert whole == result(num_classes, list(NAMES), cut)


def test_only_what_is_named_is_computed_and_each_epoch_starts_anew():
    batch = judged(1, (8, 9))
    both = result(1, ["ap", "ba"], batch)
    assert list(both) == ["ap", "ba"] == Further(1, ["ap", "ba"]).columns
    assert Further(1, ["mahd", "auc"]).columns == ["mahd", "mahd_misses", "auc"]
    further = added(1, ["ap", "ba"], batch, batch)
    further.start(CPU)
    further.add(*batch)
    assert further.result([further.share()]) == both
    assert Further(1, []).columns == []
    assert added(1, ["ba"], batch).share()["bins"].size == 0


def test_a_class_that_does_not_occur_is_in_no_mean():
    logits, predicted, target = judged(4, (20, 24))
    rare = target.where(target != 2, 3)
    known = rare != IGNORE
    found = result(4, ["ba", "auc", "ap"], (logits, predicted, rare))
    recalls = [(predicted[known] == c)[rare[known] == c].double().mean() for c in (0, 1, 3)]
    assert found["ba"] == pytest.approx(float(np.mean(recalls)))
    scores = [s[known].numpy() for s in log_odds(logits.double())]
    truth = rare[known].numpy()
    assert found["auc"] == pytest.approx(
        np.mean([roc_auc_score(truth == c, scores[c]) for c in (0, 1, 3)]), abs=1e-4
    )
    nothing = torch.full_like(target, IGNORE)
    assert np.isnan(
        list(result(4, ["ba", "auc", "ap", "accuracy"], (logits, predicted, nothing)).values())
    ).all()


def test_scores_that_are_no_numbers_have_no_ranking_and_infinite_ones_have():
    logits, predicted, target = judged(1, (8, 9))
    logits[0, 0, :2] = torch.tensor([math.inf, -math.inf])[:, None]
    target[0, 0], target[0, 1] = 1, 0
    finite = logits.clamp(-1e6, 1e6)
    names = ["auc", "ap"]
    assert result(1, names, (logits, predicted, target)) == result(
        1, names, (finite, predicted, target)
    )
    logits[0, 0, 0] = math.nan
    assert np.isnan(list(result(1, names, (logits, predicted, target)).values())).all()


def test_an_unknown_name_is_answered_with_the_choices():
    with pytest.raises(
        ConfigError, match=r"metrics\.further=\['auc', 'acu'\].* no metric acu\. Ch"
    ):
        Further(1, ["auc", "acu"])
