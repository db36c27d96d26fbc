"""The cells of a grid: every run that `python train.py -m ...` would do.

Each cell is composed by itself, exactly as the sweep composes it: a tenth of a second each.
"""

import sys
from dataclasses import dataclass
from typing import Any

from hydra import compose, initialize_config_dir
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser

from seglab import config, files, record
from seglab.config import Settings
from seglab.data import check
from seglab.data.check import Verdict
from seglab.errors import DataError


@dataclass(frozen=True)
class Cell:
    """One run of a grid, done or not.

    Attributes:
        choices: group -> name of the chosen file.
        science: as record.science makes it; its "data" is None where the data set has not been
            checked on this machine, and then any data will do.
        overrides: the command line that does it.
        images: split -> images that are trained or evaluated on each time; None: not known.
        processes: how many train together.
    """

    choices: dict[str, str]
    science: dict[str, Any]
    overrides: tuple[str, ...] = ()
    images: dict[str, int] | None = None
    processes: int = 1

    @property
    def seed(self) -> int:
        """Of the run."""
        return self.science["seed"]

    @property
    def encoder(self) -> str:
        """Its name, which may be none of configs/encoder."""
        return self.science["encoder"]["name"]

    @property
    def network(self) -> tuple[str, str]:
        """Model and encoder, as a user names them."""
        return self.choices["model"], self.encoder

    @property
    def epochs(self) -> int:
        """How many it trains."""
        return self.science["training"]["epochs"]

    @property
    def key(self) -> str:
        """The same for the same experiment, whatever the data folder held."""
        return files.sha256_json({**self.science, "data": None})

    @property
    def run_id(self) -> str | None:
        """The name of its folder; None where the data is not known."""
        if self.science["data"] is None:
            return None
        return record.run_id(self.choices, self.encoder, self.seed, files.sha256_json(self.science))


@dataclass(frozen=True)
class Place:
    """What this machine computes on."""

    kind: str  # cpu | cuda
    name: str
    memory_bytes: int


def command_lines(arguments: list[str]) -> list[tuple[str, ...]]:
    """The overrides of each job of `python train.py -m <arguments>`, by Hydra's own sweeper.

    What the command line says replaces what the experiment's `hydra.sweeper.params` say.

    Errors: ConfigError for what cannot be read, and for an unknown experiment, group or key.
    """
    try:
        with initialize_config_dir(config_dir=str(config.CONFIGS), version_base="1.3"):
            parser = OverridesParser.create(GlobalHydra.instance().config_loader())
            fixed = [o for o in parser.parse_overrides(arguments) if not o.is_sweep_override()]
            cfg = compose("train", [o.input_line for o in fixed], return_hydra_config=True)
            swept = [f"{key}={value}" for key, value in (cfg.hydra.sweeper.params or {}).items()]
            overrides = parser.parse_overrides([*swept, *arguments])
        (jobs,) = BasicSweeper.split_arguments(overrides, max_batch_size=None)
    except config.COMPOSING as error:
        raise config.explain(error, arguments) from None
    return [tuple(o for o in job if not o.startswith("hydra.")) for job in jobs]


def read(lines: list[tuple[str, ...]]) -> list[Settings]:
    """The settings of each command line. Errors: ConfigError as for training."""
    return [config.read(*config.compose(list(line))) for line in lines]


def grid(lines: list[tuple[str, ...]], all_settings: list[Settings]) -> list[Cell]:
    """The cell of each command line; a data set is asked once what is known of it."""
    verdicts: dict[str, Verdict | None] = {}
    cells = []
    for line, settings in zip(lines, all_settings, strict=True):
        data = files.sha256_json(settings.tree["dataset"])
        if data not in verdicts:
            verdicts[data] = kept_verdict(settings)
        cells.append(_cell(line, settings, verdicts[data]))
    return cells


def kept_verdict(settings: Settings) -> Verdict | None:
    """What is known of the data set without reading it; None: not here, or not checked yet."""
    try:
        source = config.build(settings, "dataset")
        return check.kept_verdict(source, settings.cache_dir)
    except DataError:
        return None


def _cell(line: tuple[str, ...], settings: Settings, verdict: Verdict | None) -> Cell:
    from seglab import experiment  # torch, and seconds, only for a configuration that holds

    device = experiment.choose_device(settings)
    fingerprint = None if verdict is None else verdict.fingerprint
    science, _ = experiment.identify(settings, device, fingerprint)
    own = settings.dataset
    patches = own.patches_per_volume if own.patch else 1
    images = None if verdict is None else _images(verdict.counts, science["training"], patches)
    return Cell(settings.choices, science, line, images, settings.trainer.world_size)


def _images(counts: dict[str, int], training: dict[str, Any], patches: int) -> dict[str, int]:
    """Split -> images of one pass: whole batches in training, and what the limits leave."""
    samples = counts["train"] * patches
    steps = min(samples // training["batch_size"], training["max_steps"] or sys.maxsize)
    most = training["max_images"] or sys.maxsize
    return {
        split: steps * training["batch_size"] if split == "train" else min(number, most)
        for split, number in counts.items()
    }


def place(settings: Settings) -> Place:
    """The device that a run of these settings takes here."""
    import torch

    from seglab import experiment

    device = experiment.choose_device(settings)
    if device.on_gpu:
        memory = torch.cuda.get_device_properties(0).total_memory
    else:
        memory = record.machine_memory_bytes()
    return Place(device.kind, device.name, memory)
