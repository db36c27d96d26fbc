"""Every experiment, reduced: its real file, on made data, from the command line to its tables.

Of each axis of a grid every value is run, but not every combination: job i takes the i-th value of
each axis, over and over, and the first seed. Networks are narrow, images small, one epoch long. The
thesis's networks cannot be narrowed, so their grids are thinned out (`FEWER`); tests/test_grid.py
trains every cell of them.
"""

import csv
import importlib.util
import re
import sys
from collections import defaultdict

import pytest
from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser

from seglab import config, experiment, record, store
from seglab.tables.every import every_sheet
from seglab.tables.measured import Measured
from seglab.tables.published import read
from seglab.tables.readings import Convention, read_runs
from tests.conftest import ROOT
from tests.data import slide_trees, trees

EXPERIMENTS = sorted(path.stem for path in (ROOT / "configs" / "experiment").glob("*.yaml"))
SMALL = (
    "trainer=cpu", "trainer.epochs=1", "trainer.batch_size=2", "encoder.weights=null",
    "logger=none", "keep_checkpoints=false", "data.workers=0",
)  # fmt: skip
MADE = {  # data set: how its tree is made, and what makes its runs small
    "celebamask_hq": (
        lambda root: trees.celebamask_hq(root, images=10),
        ("dataset.expected_images=10", "dataset.size=32"),
    ),
    "cityscapes": (trees.cityscapes, ("dataset.expected_counts=null", "dataset.size=32")),
    "covid_qu_ex_infection": (trees.covid_qu_ex, ()),
    "cxr": (trees.chest_xrays, ("dataset.size=32",)),
    "nuclei": (None, ("trainer.batch_size=8",)),
    "nifti": (trees.nifti, ("dataset.patch=[16,16,16]", "dataset.patches_per_volume=1")),
    "wsi": (
        slide_trees.wsi,
        (
            "dataset.level=1", "dataset.window=64", "dataset.stride=64", *(
                f"augmentation.{step}.{side}={pixels}"
                for step, pixels in {
                    "train.0": 46, "train.2": 32, "evaluation.0": 64, "evaluation.2": 64,
                }.items()
                for side in ("height", "width")
            ),
        ),
    ),
}  # fmt: skip
FEWER = {  # experiment: axis -> which of its values
    "thesis_celebamask_hq": {"loss": ["ce", "iou", "dice"]},
    "thesis_cityscapes": {"loss": ["combo", "dice_focal", "dist"], "encoder": ["mobilenet_v2"]},
    "ablation_seed": {"loss": ["dice", "dist"]},
    "crossval": {"loss": ["iou"], "dataset.split.fold": ["5"]},
    "demo_grid": {"loss": ["ce", "dist"], "encoder": ["mobilenet_v2"]},
}
GRID = r"4\.([1-6]|12)"  # the thesis's tables by network; 4.7, 4.9, 4.10 follow from them
FILLED = {  # experiment: table -> how many cells its runs fill, MAHD aside
    "thesis_celebamask_hq": {GRID: 3 * 3},
    "thesis_cityscapes": {GRID: 3 * 3},
    "ablation_seed": {GRID: 2 * 3},
    "crossval": {r"A\.\d": 3},
    "demo_grid": {rf"nuclei_{GRID}": 2 * 3},
    "bakos_table1": {"medical_1": 3 * 7},
    "bakos_table2": {"medical_2": 2 * 4},
    "bakos_table3": {"medical_3": 3 * 3, "medical_4": 3},
    "bakos_table3_tversky": {"medical_3": 3},
    "bakos_table4": {"medical_3": 3, "medical_4": 2 * 3},
    "bakos_table4_bce": {"medical_4": 3},
    "caliva": {"caliva": 4 * 2},
    "cxr_poster": {"poster_2": 5 * 2},
}


def axes(name):
    """The grid of an experiment: key -> its values."""
    with initialize_config_dir(config_dir=str(config.CONFIGS), version_base="1.3"):
        cfg = hydra_compose("train", [f"experiment={name}"], return_hydra_config=True)
    params = [f"{key}={values}" for key, values in cfg.hydra.sweeper.params.items()]
    return {
        override.get_key_element(): list(override.sweep_string_iterator())
        if override.is_sweep_override()
        else [override.get_value_element_as_str()]
        for override in OverridesParser.create().parse_overrides(params)
    }


def covering(name):
    """Few jobs of the grid, with every value of every axis but the seed's, or those of FEWER."""
    fewer = FEWER.get(name, {})
    values = {key: found[:1] if key == "seed" else found for key, found in axes(name).items()}
    for key, chosen in fewer.items():
        assert set(chosen) <= set(values[key]), f"{name} has no such {key}"
    values |= fewer
    for number in range(max(map(len, values.values()))):
        yield [f"{key}={found[number % len(found)]}" for key, found in values.items()]


@pytest.fixture(scope="module")
def roots(tmp_path_factory):
    """Data set -> the folder of its made tree, once for all experiments on it."""
    made = {}

    def root(dataset):
        if dataset not in made:
            made[dataset] = MADE[dataset][0](tmp_path_factory.mktemp(dataset) / "data")
        return made[dataset]

    return root


def reduced(name, job, roots, results):
    """The settings of one job of an experiment, small."""
    _, choices = config.compose([f"experiment={name}", *job])
    make, small = MADE[choices["dataset"]]
    overrides = [f"experiment={name}", *job, *SMALL, *small, f"results_dir='{results}'"]
    if make is not None:
        overrides.append(f"dataset.root='{roots(choices['dataset'])}'")
    if choices["dataset"] == "celebamask_hq" and name != "crossval":
        overrides.append("dataset.split.counts=[4,3,3]")
    settings = config.read(*config.compose(overrides))
    channels = settings.tree["model"].get("channels")
    if channels is not None:
        narrow = [2] * len(channels) if isinstance(channels, list) else 2
        settings = config.read(*config.compose([*overrides, f"model.channels={narrow}"]))
    return settings


def sheets(results):
    """What `make tables` would write of the runs."""
    convention = Convention("dataset", 0.02, "best")
    readings, damaged = read_runs(store.finished_runs(results), convention)
    assert not damaged
    published = read(ROOT / "results" / "published")
    return every_sheet(published, Measured(readings, convention), {}, None)


def filled(found, pattern):
    """Cells with a measured number in the tables of that name, MAHD aside."""
    return sum(
        cell.measured is not None and column != "mahd"
        for sheet in found
        if re.fullmatch(pattern, sheet.name)
        for (_, column), cell in sheet.cells.items()
    )


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_a_reduced_copy_runs_from_its_file_to_its_tables(name, roots, tmp_path):
    jobs = list(covering(name))
    folders = {experiment.run(reduced(name, job, roots, tmp_path)) for job in jobs}
    assert len(folders) == len(jobs)  # no two jobs are the same experiment
    for folder in folders:
        assert record.read_record(folder)["status"] == "finished"
    found = sheets(tmp_path)
    assert {p: filled(found, p) for p in FILLED[name]} == FILLED[name]
    mahd = [
        (sheet, sheet.rows[row])
        for sheet in found
        if any(re.fullmatch(pattern, sheet.name) for pattern in FILLED[name])
        for (row, column), cell in sheet.cells.items()
        if column == "mahd" and cell.measured is None and sheet.cells[row, "dsc"].measured
    ]
    for sheet, label in mahd:  # one epoch may teach a network to find nothing
        assert f"{label}: MAHD is undefined in 1 of 1 runs" in sheet.caption("measured")


def test_the_surfaces_of_caliva_fill_what_the_counts_cannot(roots, tmp_path, monkeypatch):
    """By the command that the table's caption names."""
    folder = experiment.run(reduced("caliva", ["loss=distance_penalty"], roots, tmp_path))
    (before,) = [sheet for sheet in sheets(tmp_path) if sheet.name == "caliva"]
    caption = before.caption("measured")
    assert f"for RUN {folder.name}." in caption
    (command,) = re.findall(r"`python (scripts/evaluate\.py RUN --output \S+)`, for", caption)
    command = command.replace("results/runs/RUN", str(folder)).replace("RUN", str(folder))
    path = ROOT / "scripts" / "evaluate.py"
    spec = importlib.util.spec_from_file_location("evaluate_script", path)
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    monkeypatch.setattr(sys, "argv", command.split())
    script.main()
    (after,) = [sheet for sheet in sheets(tmp_path) if sheet.name == "caliva"]
    assert filled([before], "caliva") == 2
    assert filled([after], "caliva") == 4


# ---------------------------------------------------------------- what the sources print

SETUPS = {  # of Bakos's Tables 5 to 8: experiment, loss
    ("5", "unet_variants"): ("bakos_table1", "focal_tversky"),
    ("6", "lovasz_vs_jaccard"): ("bakos_table2", "lovasz"),
    ("7", "boundary"): ("bakos_table3", "boundary"),
    ("7", "tversky"): ("bakos_table3_tversky", "tversky"),
    ("7", "boundary+tversky_constant"): ("bakos_table3", "boundary_tversky"),
    ("7", "boundary+tversky_linear"): ("bakos_table3", "boundary_tversky_linear"),
    ("8", "boundary"): ("bakos_table4", "boundary"),
    ("8", "weighted_bce"): ("bakos_table4_bce", "weighted_bce"),
    ("8", "boundary+weighted_bce_constant"): ("bakos_table4", "boundary_bce"),
}
TEXTS = {  # parameter: printed -> ours
    "model": {"U-Net": "vanilla_unet", "Residual Attention U-Net": "residual_attention_unet"},
    "optimizer": {"Adam": "torch.optim.Adam"},
    "weight_initialisation_scheme": {"He normal": "he_normal", "torch default": "default"},
    "sampling_method": {"positives only": True},
    "random_pick": {"1": "random_pick"},
    "update_rule": {"constant": "constant", "linear rebalance": "step"},
}
NOT_KEYS = {
    "loss": "the choice of the experiment",
    "augment": "not described: no augmentation",
    "batchwise_loss": "ours is of each image",
    "batch_norm_weight_initialisation_scheme": "PyTorch's, always",
    "weight_initialisation_fan_mode": "fan in, always",
    "dropout_after_conv": "yes, always",
    "non_uniform_sampling": "says that there is a sampling_method",
    "crop_validation_images": "the augmentation's part `evaluation`",
    "shuffle_validation_data": "changes nothing",
}


def own_value(parameter, tree, choices, grid):
    """What the experiment has for a printed parameter."""
    loss = tree["loss"]
    parts = {"boundary": loss, **loss.get("terms", {})}
    term = next((t["loss"] for n, t in parts.items() if n != "boundary"), loss)
    schedule = parts["boundary"].get("weight", {})
    distances = parts["boundary"].get("loss", {})
    return {
        "learning_rate": lambda: tree["optimizer"]["lr"],
        "optimizer": lambda: tree["optimizer"]["_target_"],
        "adam_beta_1": lambda: tree["optimizer"]["betas"][0],
        "adam_beta_2": lambda: tree["optimizer"]["betas"][1],
        "weight_decay": lambda: tree["optimizer"]["weight_decay"],
        "batch_size": lambda: tree["trainer"]["batch_size"],
        "number_of_epochs": lambda: tree["trainer"]["epochs"],
        "number_of_trials": lambda: len(grid.get("seed", [tree["seed"]])),
        "model": lambda: choices["model"],
        "dropout_rate": lambda: tree["model"]["dropout"],
        "weight_initialisation_scheme": lambda: tree["model"]["init"],
        "focal_gamma": lambda: loss["gamma"],
        "weight_of_false_negatives": lambda: term["alpha"],
        "weight_of_false_positives": lambda: term["beta"],
        "weight_of_positive_examples": lambda: term["beta"],
        "distance_map_bounds": lambda: distances["bound"],
        "distance_map_rescale_factor": lambda: distances["rescale"],
        "update_rule": lambda: schedule["rule"],
        "epochs_between_loss_coef_change": lambda: schedule["every"],
        "loss_coefficient_change_factor": lambda: schedule["change"],
        "random_pick": lambda: choices["augmentation"],
        "crop_size": lambda: tree["augmentation"]["evaluation"][-1]["height"],
        "rotation_limit": lambda: tree["augmentation"]["train"][1]["limit"],
        "sampling_method": lambda: tree["dataset"]["positives_only"],
        "val_split_percentage": lambda: tree["dataset"]["split"]["val"],
    }[parameter]()


@pytest.mark.parametrize("setup", SETUPS, ids="-".join)
def test_bakos_experiments_have_the_hyper_parameters_that_he_prints(setup):
    name, loss = SETUPS[setup]
    cfg, choices = config.compose([f"experiment={name}", f"loss={loss}"])
    tree, grid = config.read(cfg, choices).tree, axes(name)
    assert loss in grid.get("loss", [loss])
    printed = defaultdict(dict)
    with open(ROOT / "results" / "published" / "medical_thesis_hparams.csv") as file:
        for row in csv.DictReader(file):
            printed[row["table"], row["setup"]][row["parameter"]] = row["value"]
    checked = {
        parameter: text
        for parameter, text in printed[setup].items()
        if text and parameter not in NOT_KEYS
    }
    if "split" not in tree["dataset"]:  # COVID-QU-Ex has its own: 466 of 2330 images are for val
        del checked["val_split_percentage"]
    assert len(checked) >= 10
    for parameter, text in checked.items():
        known = TEXTS.get(parameter)
        expected = float(text) if known is None else known[text]
        assert own_value(parameter, tree, choices, grid) == expected, parameter


def test_bakos_linear_rebalance_goes_from_one_half_to_one_in_steps_of_20_epochs(read):
    settings = read("experiment=bakos_table3", "loss=boundary_tversky_linear")
    loss = config.build(settings, "loss")
    found = {}
    for epoch in (1, 20, 21, 40, 41, 60, 61, 100):
        loss.set_epoch(epoch)
        found[epoch] = tuple(round(w, 9) for w in loss.weights_in_use().values())
    half, more, most, all_ = (0.5, 0.5), (0.3, 0.7), (0.1, 0.9), (0.0, 1.0)
    assert list(found.values()) == [half, half, more, more, most, most, all_, all_]


def test_caliva_has_what_the_paper_says(read):
    settings = read("experiment=caliva")
    assert settings.tree["optimizer"]["_target_"] == "torch.optim.Adam"
    assert settings.tree["optimizer"]["lr"] == 1e-4
    split = settings.tree["dataset"]["split"]
    assert (40 * split["val"], 40 * split["test"]) == (5, 10)
    assert settings.choices["postprocess"] == "closing_largest"
    assert settings.tree["postprocess"]["components"] == 3
    assert settings.choices["augmentation"] == "inplane_rotation"
    assert settings.choices["model"] == "vnet"
    assert len(axes("caliva")["loss"]) == 4
