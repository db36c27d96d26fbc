"""Rankings over networks, metrics and images."""

import numpy as np
import pytest

from seglab import store
from seglab.tables.measured import Measured
from seglab.tables.published import read
from seglab.tables.rankings import printed_ranked, ranked, report
from seglab.tables.readings import Convention, read_runs
from tests.conftest import ROOT
from tests.tables.runs import make_run

PUBLISHED = read(ROOT / "results" / "published")
CONVENTION = Convention("dataset", 0.02, "best")
BIOU = {"dist": (0.9, 0.8, 0.7), "ce": (0.5, 0.6, 0.8), "mine": (0.4, 0.0, 0.6)}
ENCODERS = ("resnet34", "resnet50", "mobilenet_v2")


def measured(results):
    readings, damaged = read_runs(store.finished_runs(results), CONVENTION)
    assert damaged == []
    return Measured(readings, CONVENTION)


@pytest.fixture
def grid(tmp_path):
    for loss, values in BIOU.items():
        for encoder, biou in zip(ENCODERS, values, strict=True):
            make_run(tmp_path, encoder=encoder, loss=loss, biou=biou, iou=1 - biou / 2)
    return tmp_path


def test_the_losses_that_every_network_has_are_ranked_over_the_networks(grid):
    make_run(grid, encoder="resnet34", loss="dice")  # with one network alone
    make_run(grid, encoder="resnet34", loss="ce", seed=7)  # another seed, one network
    (found,) = ranked(measured(grid))
    assert found.title == "nuclei, seed 42, split test"
    assert found.networks == [("unet", encoder) for encoder in ENCODERS]
    assert found.losses == ["ce", "dist", "mine"]  # those of the thesis first
    order = np.argsort(-found.values["biou"], axis=1)
    assert order.tolist() == [[1, 0, 2], [1, 0, 2], [0, 1, 2]]


def test_the_report_says_ranks_groups_and_agreement(grid):
    text = report(PUBLISHED, measured(grid)).split("Measured: ")[1]
    assert "## nuclei, seed 42, split test: 3 networks" in text
    assert "| Ours | 1.33 | 2.67 | 2.67 |" in text
    assert "| Cross-Entropy | 1.67 | 2.33 | 2.33 |" in text
    assert "| mine | 3.00 | 1.00 | 1.00 |" in text
    assert "bIoU: Friedman p = 0.097; CD = 1.91." in text
    assert "Not told apart by Nemenyi: Ours, Cross-Entropy, mine" in text
    assert "Kendall's tau of bIoU and IoU: -1.00" in text
    assert "Kendall's tau of IoU and Dice: +1.00" in text
    assert "No interval of a rank: " in text  # of two images


def test_nothing_to_rank_is_said(tmp_path):
    make_run(tmp_path, loss="ce")
    make_run(tmp_path, loss="dist")
    text = report(PUBLISHED, measured(tmp_path))
    assert "Nothing measured to rank: it takes two losses with two networks each" in text


def test_the_printed_tables_are_ranked_too():
    streets, celeba, both = printed_ranked(PUBLISHED)
    assert [len(group.values["biou"]) for group in (celeba, streets, both)] == [6, 6, 12]
    lines = PUBLISHED["dist_thesis"]
    ours = lines.set_index(["table", "loss", "metric"]).loc[("4.1", "dist", "biou"), "value"]
    for value in ours.astype(float):
        assert value in both.values["biou"][:, both.losses.index("dist")]
    assert celeba.title == "Printed in Gul's thesis, Tables 4.1-4.6: CelebAMask-HQ"
    assert "| Ours | 2.33 | 2.33 | 2.33 |" in report(PUBLISHED, Measured([], CONVENTION))
