"""scripts/evaluate.py says of a finished run what its own counts say, and more."""

import math
import sys

import numpy as np
import pandas as pd
import pytest

from seglab import config, experiment, store
from seglab.metrics import pairs
from tests.conftest import ROOT, TINY


def test_a_miss_is_counted_and_never_dropped():
    found = pairs.summarise([1.0, math.inf, math.nan, 3.0, math.inf], diagonal=10.0)
    assert found == pairs.Summary(mean=2.0, penalised=6.0, finite=2, misses=2, undefined=1)
    nothing = pairs.summarise([math.nan], diagonal=10.0)
    assert math.isnan(nothing.mean)
    assert nothing[2:] == (0, 0, 1)


def test_a_pair_has_every_metric_in_two_dimensions_and_in_three():
    rng = np.random.default_rng(0)
    flat, volume = (rng.random((2, *shape)) < 0.4 for shape in ((8, 9), (3, 8, 9)))
    both, deep = pairs.of_pair(*flat), pairs.of_pair(*volume, (2.0, 1.0, 1.0))
    assert set(both) - set(deep) == {"hd95_surfel"}
    assert all(math.isfinite(value) for value in (both | deep).values())
    assert both["precision"] == (flat[0] & flat[1]).sum() / flat[0].sum()
    assert both["recall"] == (flat[0] & flat[1]).sum() / flat[1].sum()


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    results = tmp_path_factory.mktemp("evaluate") / "results"
    overrides = [*TINY, f"results_dir='{results}'", "loss=dice"]
    return experiment.run(config.read(*config.compose(overrides)))


@pytest.fixture
def evaluate(monkeypatch, capsys):
    """evaluate(RUN, ...) -> (exit code, what it printed, its error)."""
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    import evaluate as script

    def evaluate_(*arguments):
        monkeypatch.setattr(sys, "argv", ["evaluate.py", *map(str, arguments)])
        code = config.guarded(script.main, [])
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return evaluate_


def test_its_precision_is_that_of_the_stored_counts(evaluate, finished, tmp_path):
    code, text, error = evaluate(finished, "--output", tmp_path / "images.csv")
    assert code == 0, error
    assert "hd95_surfel" in text
    assert "roc_auc" in text
    found = pd.read_csv(tmp_path / "images.csv")
    (run,) = store.finished_runs(finished.parents[1])
    kept = run.images()
    kept = kept[(kept["checkpoint"] == "best") & (kept["split"] == "test")]
    kept = kept.sort_values(["image", "class"])
    names = run.record["dataset"]["classes"]
    found["order"] = found["class"].map(names.index)
    found = found.sort_values(["image", "order"])
    expected = (kept["tp"] / (kept["tp"] + kept["fp"])).to_numpy()
    assert len(found) == len(expected) == 9
    np.testing.assert_allclose(found["precision"], expected)


def test_what_is_not_there_is_one_message(evaluate, finished):
    for arguments, says in (
        (["nowhere"], "nowhere: neither a folder nor a run in"),
        ([finished, "--split", "tset"], "--split tset: must be one of train, val, test"),
    ):
        code, _, error = evaluate(*arguments)
        assert code == 1
        assert says in error
