"""Every file of configs/dataset builds its source, with the keys that the rest of seglab takes."""

from pathlib import Path

import pytest
import trees
from hydra import compose, initialize_config_dir
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import OmegaConf

from seglab.config import DATASET_KEYS
from seglab.data.preprocess import Preprocess
from seglab.data.source import IGNORE, Source
from seglab.ops import IGNORE as IGNORE_OF_OPS

CONFIGS = Path(__file__).parents[2] / "configs"
NAMES = sorted(path.stem for path in (CONFIGS / "dataset").glob("*.yaml"))


def composed(name, *overrides):
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        return compose(overrides=[f"+dataset={name}", *overrides]).dataset


def build(config) -> Source:
    arguments = OmegaConf.masked_copy(config, [k for k in config if k not in DATASET_KEYS])
    return instantiate(arguments)


@pytest.mark.parametrize("name", NAMES)
def test_builds_a_source_of_that_name(name, tmp_path):
    made = trees.MAKERS[name](tmp_path / "data") if name in trees.MAKERS else None
    config = composed(name, *([f"dataset.root='{made}'"] if made else []))
    Preprocess(config.size, config.pad)
    assert len(config.mean) == len(config.std) == 3
    assert set(config.recipe) == {"epochs", "batch_size", "encoder_weights"}
    source = build(config)
    assert source.name == name
    assert source.test_split in source.splits
    assert len(source.colours) == source.num_classes
    assert source.samples(source.splits[0])


@pytest.mark.parametrize("name", NAMES)
def test_starts_with_its_licence_and_its_command(name):
    lines = (CONFIGS / "dataset" / f"{name}.yaml").read_text().splitlines()
    assert lines[0].startswith("# ")
    assert lines[1].startswith(f"# python train.py dataset={name}")


@pytest.mark.parametrize("name", sorted(trees.MAKERS))
def test_a_root_must_be_given(name):
    with pytest.raises(
        InstantiationException, match=rf"dataset\.root=FOLDER.*SEGLAB_{name.upper()}"
    ):
        build(composed(name))


def test_the_celeba_split_is_one_word_on_the_command_line(celeba_root):
    config = composed("celebamask_hq", f"dataset.root={celeba_root}", "dataset.split=celeba")
    assert build(config).options()["split"] == "celeba"


def test_the_papers_split_is_the_default(celeba_root):
    config = composed("celebamask_hq", f"dataset.root={celeba_root}")
    assert build(config).expected_counts == {"train": 23200, "val": 5800, "test": 1000}
    assert config.expected_images == 30000


def test_ignore_is_one_number():
    assert IGNORE == IGNORE_OF_OPS
