"""The command in a caption makes runs of the protocol that the table shows."""

import shlex
from pathlib import Path
from types import SimpleNamespace

import pytest

from seglab import config, record
from seglab.errors import ConfigError
from seglab.tables import again

CELLS = "model=unet encoder=resnet50 loss=ce,dist"
RESULTS = Path("results").absolute()


def composed(overrides):
    settings = config.read(*config.compose(list(overrides)))
    return settings.tree, settings.choices


def science_of(overrides):
    tree, choices = composed(overrides)
    keys = ("epochs", "batch_size", "precision", "max_steps", "max_images", "compile")
    training = {key: tree["trainer"][key] for key in keys}
    return record.science(tree, training, tree["encoder"]["weights"], None), choices


def run_of(*overrides, results=RESULTS):
    """What the tables hold of a run that this command line made."""
    science, choices = science_of(overrides)
    found = {"science": science, "choices": choices, "seed": science["seed"]}
    return SimpleNamespace(run=SimpleNamespace(folder=results / "runs" / "x", record=found))


def line_of(sentence):
    """The overrides of the command in it."""
    start, line, rest = sentence.split("`")
    assert line.startswith("python train.py -m ")
    assert rest.startswith(", which skips what is done")
    return shlex.split(line)[3:]


MADE = {
    "an experiment": ["experiment=demo_grid"],
    "an experiment and more": ["experiment=demo_grid", "trainer.epochs=3", "dataset.window=96"],
    "by hand": ["dataset.window=64", "trainer.epochs=3", "trainer.batch_size=2", "seed=7",
                "optimizer=adam", "optimizer.lr=0.01", "trainer.precision=32",
                "metrics.boundary_ratios=[0.02]", "metrics.further=[auc]", "augmentation=flips"],
    "another data set": ["dataset=shapes", "dataset.num_classes=1"],
    "one with a folder": ["dataset=cxr", "dataset.root=/data/x", "encoder.weights=null"],
    "sections in a section": ["dataset=wsi", "dataset.split.val=0.25", "dataset.split.seed=3"],
}  # fmt: skip


@pytest.mark.parametrize("made", MADE.values(), ids=MADE)
@pytest.mark.parametrize("by", [composed, None], ids=["short", "long"])
def test_the_command_is_of_the_same_protocol(made, by):
    run = run_of(*made)
    line = line_of(again.command([run], CELLS, by))
    cells = [part.split(",")[0] if part.startswith("loss") else part for part in line]
    science, choices = science_of([part for part in cells if not part.endswith("=...")])
    ours = run.run.record["science"]
    assert CELLS in " ".join(line)
    for section in set(ours) - {"model", "encoder", "loss"}:
        assert science[section] == ours[section], section
    assert science["encoder"]["weights"] == ours["encoder"]["weights"]
    assert choices["experiment"] == run.run.record["choices"]["experiment"]


def test_what_is_the_default_is_not_said():
    assert line_of(again.command([run_of("experiment=demo_grid")], CELLS, composed)) == [
        "experiment=demo_grid", *CELLS.split(),
    ]  # fmt: skip
    seeds = [run_of("trainer.epochs=3", f"seed={seed}") for seed in (9, 7)]
    assert line_of(again.command(seeds, CELLS, composed)) == [
        "dataset=nuclei", "seed=7,9", *CELLS.split(), "trainer.epochs=3",
    ]  # fmt: skip
    elsewhere = run_of("experiment=demo_grid", results=Path("other results").absolute())
    (said,) = line_of(again.command([elsewhere], CELLS, composed))[-1:]
    assert said == f'results_dir="{Path("other results").absolute()}"'


def test_what_no_command_line_can_say_is_left_open_and_said():
    run = run_of("dataset=cxr", "dataset.root=/data/x")
    run.run.record["science"]["encoder"]["weights"] = "sha256:abc"
    sentence = again.command([run], CELLS, composed)
    assert {"dataset.root=...", "encoder.weights=..."} <= set(line_of(sentence))
    assert sentence.endswith("where ... stands, the config.yaml of a run has the value")


def test_choices_of_a_folder_of_the_users_are_said_in_full():
    def unknown(overrides):
        raise ConfigError(f"{overrides[0]}: there is no configs/dataset/mine.yaml.")

    run = run_of("dataset.window=64")
    run.run.record["choices"]["dataset"] = "mine"
    line = line_of(again.command([run], CELLS, unknown))
    assert line[0] == "dataset=mine"
    assert {"dataset.window=64", "trainer.epochs=20", "seed=42"} <= set(line)
