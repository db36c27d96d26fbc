"""One short run on each data set that no experiment is about, from its folder to its record.

Those of the experiments are in tests/test_experiments.py.
"""

import numpy as np
import pandas as pd
import pytest

from seglab import config, experiment, record
from tests.conftest import ROOT
from tests.data import trees
from tests.test_experiments import MADE

SHORT = (
    "trainer=debug", "trainer.accelerator=cpu", "encoder=mobilenet_v2", "encoder.weights=null",
    "logger=none", "loss=dice_focal",
)  # fmt: skip
SMALL = ("dataset.size=32", "dataset.pad=square")
OWN = {"ade20k": ("dataset.expected_counts=null",), "folder": ("dataset.classes=[cell]",)}
NAMES = sorted(path.stem for path in (ROOT / "configs" / "dataset").glob("*.yaml"))
ALONE = sorted(set(NAMES) - set(MADE) - {"shapes"})


@pytest.mark.parametrize("name", ALONE)
def test_a_short_run_counts_every_pixel_of_what_it_evaluates(name, read, tmp_path):
    root = trees.MAKERS[name](tmp_path / "data")
    overrides = (f"dataset={name}", f"dataset.root='{root}'", *SHORT, *SMALL, *OWN.get(name, ()))
    settings = read(*overrides)
    folder = experiment.run(settings)
    found = record.read_record(folder)
    assert found["status"] == "finished"
    source = config.build(settings, "dataset")
    assert found["dataset"]["classes"] == list(source.classes)
    images = pd.read_parquet(folder / "images.parquet")
    images = images[(images["checkpoint"] == "best") & (images["split"] == source.test_split)]
    few = [sample.id for sample in source.samples(source.test_split)][:4]
    assert list(dict.fromkeys(images["image"])) == few
    assert len(images) == len(few) * source.num_classes
    assert np.isfinite(pd.read_csv(folder / "epochs.csv")["loss"]).all()
    if source.num_classes > 1:  # every counted pixel has a class, in the truth as in the prediction
        wrong = images.groupby("image")[["fp", "fn"]].sum()
        assert (wrong["fp"] == wrong["fn"]).all()
