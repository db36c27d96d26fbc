"""A configuration holds, or one message says which key is wrong and what to do."""

from pathlib import Path

import pytest
from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from seglab import config
from seglab.errors import ConfigError, DataError
from tests.conftest import ROOT

CONFIGS = ROOT / "configs"
GROUPS = sorted(path for path in CONFIGS.iterdir() if path.is_dir())
CHOICES = [
    (path.parent.name, path.stem) for group in GROUPS for path in sorted(group.glob("*.yaml"))
]
NEEDS = {
    ("model", "smp"): ["model.architecture=FPN"],
}


@pytest.mark.parametrize(("group", "choice"), CHOICES)
def test_every_file_of_every_group_composes_and_reads(read, group, choice):
    settings = read(f"{group}={choice}", *NEEDS.get((group, choice), []))
    assert settings.choices[group] == choice


@pytest.mark.parametrize(("group", "choice"), CHOICES)
def test_every_choice_begins_with_a_source_and_a_command(group, choice):
    lines = (CONFIGS / group / f"{choice}.yaml").read_text(encoding="utf-8").splitlines()
    comments = "\n".join(line for line in lines[:6] if line.startswith("#"))
    assert "python train.py" in comments, "the first lines say which command takes this choice"


def message(*overrides):
    with pytest.raises(ConfigError) as caught:
        config.read(*config.compose(list(overrides)))
    return str(caught.value)


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["loss=dst"], ["loss=dst", "configs/loss/dst.yaml", "Did you mean dist?", "ce, combo"]),
        (["encoder=resnet18"], ["configs/encoder/resnet18.yaml", "resnet34, resnet50"]),
        (["losss=dist"], ["losss", "no such key", "Did you mean loss?"]),
        (["trainer.epoch=3"], ["trainer.epoch", "Did you mean trainer.epochs?"]),
        (["epochs=3"], ["epochs: there is no such key", "trainer.epochs"]),
        (["loss=focal", "loss.gama=3"], ["loss.gama", "Did you mean loss.gamma?"]),
        (["+trainer.foo=1"], ["trainer.foo", "no such key"]),
        (["loss dist"], ["loss dist", "key=value"]),
        (["trainer.epochs=abc"], ["trainer.epochs=abc", "Integer"]),
        (["trainer.epochs=0"], ["trainer.epochs=0", "at least 1"]),
        (["trainer.precision=8"], ["trainer.precision=8", "16-mixed"]),
        (["trainer.accelerator=tpu"], ["trainer.accelerator=tpu", "auto, cpu, gpu"]),
        (["trainer.batch_size=5", "trainer.devices=2"], ["batch_size=5", "multiple of 2"]),
        (["data.workers=many"], ["data.workers=many", "auto"]),
        (["data.prepare=perhaps"], ["data.prepare=perhaps", "auto, yes, no"]),
        (["logger.mode=on"], ["logger.mode=on", "offline, online"]),
        (["metrics.boundary_ratios=[]"], ["metrics.boundary_ratios=[]", "between 0 and 1"]),
        (["dataset.pad=round"], ["dataset.pad=round", "square, none"]),
        (
            ["metrics.boundary_ratios=[0.1,0.1]"],
            ["metrics.boundary_ratios=[0.1, 0.1]", "different"],
        ),
        (["metrics=3"], ["metrics=3"]),
        (["optimizer=null"], ["optimizer"]),
        (["loss=ce,dist"], ["python train.py -m"]),
        (["dataset.mean=[0.5]"], ["dataset.mean=[0.5]", "three numbers"]),
        (["dataset.std=[1,0,1]"], ["dataset.std=[1.0, 0.0, 1.0]", "above 0"]),
        (["encoder.weights=[1]"], ["encoder.weights=[1]"]),
        (["+results_dri=x"], ["results_dri", "Did you mean results_dir?"]),
        (["results_dir="], ["results_dir=", "must name a folder"]),
        (["loss=[ce,dist]"], ["loss: takes the name of one file"]),
        (["results_dir=/my dir/\u00fc"], ["quoted twice"]),
        (["seed=-1"], ["seed=-1"]),
        (["seed=x"], ["seed=x"]),
        (["keep_checkpoints=few"], ["keep_checkpoints=few", "true or false"]),
        (["rerun=perhaps"], ["rerun=perhaps", "true, false or stale"]),
        (["model=smp"], ["model.architecture: has no value"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_a_mistake_is_named_with_its_cure(overrides, words):
    text = message(*overrides)
    assert all(word in text for word in words), text


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("os.system", ["package os", "allow=[os]"]),
        ("builtins.eval", ["package builtins"]),
        ("torch.os.system", ["posix"]),
        ("seglab.files.shutil.rmtree", ["shutil"]),
        ("seglab.losses.nothing.Here", ["cannot be imported"]),
        ("my_module.Loss", ["my_module", "allow=[my_module]"]),
    ],
)
def test_what_may_not_be_called_is_refused_before_it_is(target, words):
    text = message("loss=ce", f"loss._target_={target}")
    assert "loss._target_" in text
    assert all(word in text for word in words), text


def test_a_target_is_found_however_deep_it_hides():
    text = message("loss=ce", "+loss.parts=[{inner: {_target_: os.system}}]")
    assert "loss.parts[0].inner._target_=os.system" in text


def test_a_package_of_the_users_own_can_be_allowed(read, tmp_path, monkeypatch):
    (tmp_path / "my_losses.py").write_text("class Mine:\n    def __init__(self, weight):\n"
                                           "        self.weight = weight\n")  # fmt: skip
    monkeypatch.syspath_prepend(tmp_path)
    arguments = ["loss=ce", "loss._target_=my_losses.Mine", "+loss.weight=3"]
    settings = read("allow=[my_losses]", *arguments)
    assert config.build(settings, "loss").weight == 3


def test_a_constructor_that_refuses_is_named_with_its_file(read):
    settings = read("loss=ce", "+loss.gama=2")
    with pytest.raises(ConfigError, match=r"configs/loss/ce\.yaml: cannot build loss: .*gama"):
        config.build(settings, "loss")


def test_a_root_may_stand_in_the_environment(read, monkeypatch):
    monkeypatch.setenv("SEGLAB_CITYSCAPES", "/data/a")
    assert read("dataset=cityscapes").tree["dataset"]["root"] == "/data/a"
    assert read("dataset=cityscapes", "dataset.root=/data/b").tree["dataset"]["root"] == "/data/b"


def test_an_error_of_ours_in_a_constructor_comes_through_as_it_is(read):
    with pytest.raises(DataError, match=r"dataset\.root"):
        config.build(read("dataset=cityscapes"), "dataset")


def test_the_defaults_are_those_of_the_thesis(read):
    for experiment in ("thesis_celebamask_hq", "thesis_cityscapes"):
        settings = read(f"experiment={experiment}", "dataset.root=/data/x")
        assert (settings.trainer.epochs, settings.trainer.batch_size, settings.seed) == (60, 32, 42)
        assert settings.tree["optimizer"]["_target_"] == "torch.optim.AdamW"
        assert settings.tree["optimizer"]["lr"] == 3e-4
        assert settings.tree["encoder"]["weights"] == "imagenet"
        assert settings.dataset.pad == "square"


GRIDS = {
    "thesis_celebamask_hq": 36,
    "thesis_cityscapes": 36,
    "ablation_seed": 12,
    "crossval": 30,
    "demo_grid": 36,
    "bakos_table1": 15,
    "bakos_table2": 10,
    "bakos_table3": 3,
    "bakos_table3_tversky": 5,
    "bakos_table4": 2,
    "bakos_table4_bce": 5,
    "caliva": 4,
    "cxr_poster": 5,
}


@pytest.mark.parametrize("name", sorted(p.stem for p in (CONFIGS / "experiment").glob("*.yaml")))
def test_a_named_grid_sweeps_over_its_cells(name):
    with initialize_config_dir(config_dir=str(CONFIGS), version_base="1.3"):
        cfg = hydra_compose("train", [f"experiment={name}"], return_hydra_config=True)
    params = [f"{key}={values}" for key, values in cfg.hydra.sweeper.params.items()]
    parsed = OverridesParser.create().parse_overrides(params)
    (jobs,) = BasicSweeper.split_arguments(parsed, None)
    assert len(jobs) == GRIDS[name]
    for job in (jobs[0], jobs[-1]):
        config.compose([f"experiment={name}", *job])


def test_the_embedded_data_set_needs_no_download(read):
    settings = read()
    assert settings.choices["dataset"] == "nuclei"
    assert settings.tree["encoder"]["weights"] is None


def test_a_configuration_survives_the_way_to_a_file_and_back(read):
    settings = read("loss=dist", "model=deeplabv3plus")
    again = config.read(OmegaConf.create(settings.tree), settings.choices)
    assert again == settings


def test_folders_are_absolute(read):
    assert read().results_dir.is_absolute()
    assert read("cache_dir=somewhere").cache_dir == Path.cwd() / "somewhere"
