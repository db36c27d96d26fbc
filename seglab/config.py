"""YAML -> checked settings and objects. Errors name the file and the key.

Three steps: `compose` (Hydra puts the files and the command line together), `read` (types and
ranges of the plain sections), `build` (a section with a `_target_` becomes an object). Nothing
here imports torch, so that a misspelt key is answered in a second.
"""

import difflib
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from hydra.utils import get_object, instantiate
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from seglab import launchers  # noqa: F401 - shows Hydra our launchers
from seglab.errors import ConfigError, UserError

_BESIDE = Path(__file__).resolve().parents[1] / "configs"
CONFIGS = _BESIDE if _BESIDE.is_dir() else Path.cwd() / "configs"  # installed elsewhere: the clone
ALLOWED = (
    "seglab", "torch", "segmentation_models_pytorch", "torchmetrics", "lightning", "monai",
    "albumentations",
)  # fmt: skip
KEYS = {
    "dataset", "augmentation", "model", "encoder", "loss", "optimizer", "postprocess", "trainer",
    "logger", "experiment", "seed",
    "metrics", "data", "results_dir", "cache_dir", "allow", "keep_checkpoints", "rerun",
}  # fmt: skip
COMPOSING = (HydraException, OmegaConfBaseException, yaml.YAMLError, ValueError)  # may raise these
DATASET_KEYS = (  # for seglab, not for the data set's class
    "size", "pad", "mean", "std", "recipe", "patch", "patches_per_volume",
    "patch_foreground", "patch_overlap",
)  # fmt: skip
NEEDED = ("dataset", "augmentation", "model", "encoder", "loss", "optimizer", "postprocess")
NOTHING: dict[str, dict[str, Any]] = {  # what configs/<section>/none.yaml says
    "augmentation": {
        "_target_": "seglab.data.augment.Augmentation",
        "train": [],
        "evaluation": [],
    },
    "postprocess": {"_target_": "seglab.postprocess.Unchanged"},
}


@dataclass
class MetricSettings:
    """Section `metrics`."""

    boundary_ratios: list[float] = field(default_factory=list)
    further: list[str] = field(default_factory=list)
    further_last: int | None = None


@dataclass
class DataSettings:
    """Section `data`: how the data is fed; changes no number."""

    workers: str = "auto"
    prepare: str = "auto"
    on_device: str = "auto"


@dataclass
class TrainerSettings:
    """Section `trainer`."""

    accelerator: str = "auto"
    devices: int = 1
    num_nodes: int = 1
    precision: str = "auto"
    epochs: int = 1
    batch_size: int = 1
    max_steps: int | None = None
    max_images: int | None = None
    compile: bool = False

    @property
    def world_size(self) -> int:
        """Processes that train together."""
        return self.devices * self.num_nodes


@dataclass
class LoggerSettings:
    """Section `logger`."""

    name: str = "none"
    mode: str = "offline"
    project: str = "seglab"
    entity: str | None = None
    images: str = "auto"


@dataclass
class DatasetSettings:
    """The part of section `dataset` that is seglab's own."""

    size: int | None = None
    pad: str = "none"
    mean: list[float] = field(default_factory=list)
    std: list[float] = field(default_factory=list)
    patch: list[int] | None = None  # of volumes; None: the data set has images
    patches_per_volume: int = 1
    patch_foreground: float = 0.0
    patch_overlap: float = 0.5


@dataclass(frozen=True)
class Settings:
    """A configuration that has been read: types hold, choices exist.

    Attributes:
        tree: the whole configuration, resolved, as plain dicts and lists.
        choices: group -> name of the chosen file ("loss" -> "dist").
    """

    tree: dict[str, Any]
    choices: dict[str, str]
    seed: int
    metrics: MetricSettings
    data: DataSettings
    trainer: TrainerSettings
    logger: LoggerSettings
    dataset: DatasetSettings
    results_dir: Path
    cache_dir: Path
    allow: tuple[str, ...]
    keep_checkpoints: bool
    rerun: str  # no | yes | stale


# ---------------------------------------------------------------- compose


def compose(overrides: list[str], configs: Path = CONFIGS) -> tuple[DictConfig, dict[str, str]]:
    """The configuration that `python train.py <overrides>` has, and the chosen file of each group.

    Errors: ConfigError for an unknown group, choice or key.
    """
    try:
        with initialize_config_dir(config_dir=str(configs), version_base="1.3"):
            cfg = hydra_compose("train", overrides=overrides, return_hydra_config=True)
    except COMPOSING as error:
        raise explain(error, overrides, configs) from None
    choices = OmegaConf.to_container(cfg.hydra.runtime.choices)
    assert isinstance(choices, dict)
    with open_dict(cfg):
        del cfg["hydra"]
    return cfg, own_choices(choices)


def own_choices(choices: Mapping[Any, Any]) -> dict[str, str]:
    """Hydra's choices without those of Hydra itself."""
    return {str(k): str(v) for k, v in choices.items() if not str(k).startswith("hydra/")}


def explain(error: Exception, overrides: list[str], configs: Path = CONFIGS) -> ConfigError:
    """Hydra's complaint about a command line, as one message that says what to do."""
    if isinstance(error, OverrideParseException):
        return ConfigError(
            f"{error.override}: this cannot be read as key=value. A value with spaces, commas or "
            "letters outside ASCII is quoted twice: 'key=\"/my dir\"'."
        )
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        group, _, name = str(error.missing_cfg_file).rpartition("/")
        options = [str(option) for option in error.options or []]
        if group and options:
            return ConfigError(
                f"{group}={name}: there is no configs/{group}/{name}.yaml. "
                f"{_did_you_mean(name, options)}Choices: {', '.join(sorted(options))}."
            )
    nothing = [override for override in overrides if override.endswith("=null")]
    if "Got NoneType" in str(error) and nothing:
        return ConfigError(f"{', '.join(nothing)}: a group takes the name of one of its files.")
    if "Ambiguous value for argument" in str(error):
        found = re.search(r"argument '([^']+)'", str(error))
        return ConfigError(
            f"{found.group(1) if found else ''}: several values make a sweep: "
            "python train.py -m ... A list is written key=[a,b]."
        )
    key = _unknown_key(error, overrides)
    if key is not None:
        known = list(_known_keys(configs, overrides, key))
        return ConfigError(
            f"{key}: there is no such key. {_did_you_mean(key, known)}"
            "`python train.py --cfg job` lists them all."
        )
    if isinstance(error, yaml.YAMLError):
        return ConfigError(f"not valid YAML: {' '.join(str(error).split())}")
    return ConfigError(str(error).strip().splitlines()[0] if str(error).strip() else repr(error))


def _unknown_key(error: Exception, overrides: list[str]) -> str | None:
    text = str(error)
    for pattern in (
        r"Could not override '([^']+)'",
        r"No match in the defaults list\.[\s\S]*?'?([\w./]+)'?$",
        r"Key '([^']+)' is not in struct",
    ):
        found = re.search(pattern, text)
        if found:
            name = found.group(1).split("@")[0]
            for override in overrides:  # the key as it was typed
                typed = override.lstrip("+~").split("=")[0]
                if typed == name or typed.endswith("." + name):
                    return typed
            return name
    return None


def _known_keys(configs: Path, overrides: list[str], unknown: str) -> Iterator[str]:
    """Groups and keys of the configuration without the overrides of the unknown key."""
    usable = [
        override
        for override in overrides
        if "/" not in override.split("=")[0]
        and (configs / override.split("=")[0] / f"{override.split('=')[-1]}.yaml").exists()
    ]
    try:
        GlobalHydra.instance().clear()
        with initialize_config_dir(config_dir=str(configs), version_base="1.3"):
            cfg = hydra_compose("train", overrides=usable)
    except (HydraException, OmegaConfBaseException):
        return
    yield from sorted(path.name for path in configs.iterdir() if path.is_dir())
    yield from _flat_keys(OmegaConf.to_container(cfg, resolve=False), "", unknown.count("."))


def _flat_keys(tree: Any, prefix: str, depth: int) -> Iterator[str]:
    for key, value in tree.items() if isinstance(tree, dict) else ():
        path = f"{prefix}{key}"
        yield path
        if isinstance(value, dict):
            yield from _flat_keys(value, path + ".", depth)


def _did_you_mean(word: str, known: list[str]) -> str:
    known = list(dict.fromkeys(known))
    near = difflib.get_close_matches(word, known, n=1, cutoff=0.7)
    if not near:  # the last part alone: epochs -> trainer.epochs
        leaf = word.rsplit(".", 1)[-1]
        leaves = difflib.get_close_matches(leaf, [k.rsplit(".", 1)[-1] for k in known], n=1)
        near = [k for k in known if leaves and k.rsplit(".", 1)[-1] == leaves[0]][:3]
    return f"Did you mean {' or '.join(near)}? " if near else ""


# ---------------------------------------------------------------- read


def read(cfg: DictConfig, choices: Mapping[str, str]) -> Settings:
    """Checks types and ranges of every plain section.

    Errors: ConfigError that names the key.
    """
    tree = _resolved(cfg)
    unknown = sorted(set(tree) - KEYS)
    if unknown:
        hint = _did_you_mean(unknown[0], sorted(KEYS))
        raise ConfigError(f"{unknown[0]}: there is no such key. {hint}")
    for key in ("results_dir", "cache_dir"):
        if not tree[key] or not isinstance(tree[key], str):
            raise ConfigError(f"{key}={tree[key] or ''}: must name a folder.")
    for section in ("augmentation", "postprocess"):  # a run from before they came has none
        tree.setdefault(section, dict(NOTHING[section]))
        choices = {section: "none", **choices}
    for section in NEEDED:
        if section not in choices:
            raise ConfigError(f"{section}: takes the name of one file in configs/{section}.")
        if not isinstance(tree.get(section), dict):
            raise ConfigError(
                f"{section}={tree.get(section)}: must be the name of a file in configs/{section}."
            )
    weights = tree["encoder"].get("weights")
    if weights is not None and not isinstance(weights, str):
        raise ConfigError(f"encoder.weights={weights}: must be imagenet, null, or a file's path.")
    trainer = _typed("trainer", TrainerSettings, tree.get("trainer"))
    for key in ("devices", "num_nodes", "epochs", "batch_size", "max_steps", "max_images"):
        value = getattr(trainer, key)
        if value is not None and value < 1:
            raise ConfigError(f"trainer.{key}={value}: must be at least 1.")
    _choice("trainer.accelerator", trainer.accelerator, ("auto", "cpu", "gpu"))
    _choice("trainer.precision", trainer.precision, ("auto", "32", "16-mixed", "bf16-mixed"))
    if trainer.batch_size % trainer.world_size:
        raise ConfigError(
            f"trainer.batch_size={trainer.batch_size}: cannot be shared out evenly over "
            f"{trainer.world_size} processes (trainer.devices={trainer.devices}, "
            f"trainer.num_nodes={trainer.num_nodes}). Take a multiple of {trainer.world_size}."
        )
    logger = _typed("logger", LoggerSettings, tree.get("logger"))
    _choice("logger.name", logger.name, ("wandb", "csv", "none"))
    _choice("logger.mode", logger.mode, ("offline", "online"))
    logger.images = _choice("logger.images", logger.images.lower(), ("auto", "true", "false"))
    data = _typed("data", DataSettings, tree.get("data"))
    for key in ("prepare", "on_device"):
        value = getattr(data, key).lower()
        value = {"true": "yes", "false": "no"}.get(value, value)
        setattr(data, key, _choice(f"data.{key}", value, ("auto", "yes", "no")))
    if data.workers != "auto" and not data.workers.isdecimal():
        raise ConfigError(f"data.workers={data.workers}: must be auto or a number from 0.")
    metrics = _typed("metrics", MetricSettings, tree.get("metrics"))
    ratios = metrics.boundary_ratios
    if not ratios or len(set(ratios)) < len(ratios) or not all(0 < r < 1 for r in ratios):
        raise ConfigError(
            f"metrics.boundary_ratios={ratios}: "
            "must be one or more different numbers between 0 and 1, such as [0.02, 0.005]."
        )
    own = {k: v for k, v in tree["dataset"].items() if k in DATASET_KEYS and k != "recipe"}
    if metrics.further_last is not None and metrics.further_last < 1:
        raise ConfigError(
            f"metrics.further_last={metrics.further_last}: must be a number of epochs from 1, or "
            "null for all."
        )
    dataset = _typed("dataset", DatasetSettings, own)
    _choice("dataset.pad", dataset.pad, ("square", "none"))
    if dataset.patch is not None:
        _check_patches(dataset)
    for key, low in (("mean", float("-inf")), ("std", 0.0)):
        values = getattr(dataset, key)
        if len(values) != 3 or not all(value > low for value in values):
            positive = " above 0" if key == "std" else ""
            raise ConfigError(f"dataset.{key}={values}: must be three numbers{positive}: R, G, B.")
    seed = tree["seed"]
    if not isinstance(seed, int) or isinstance(seed, bool) or not 0 <= seed < 2**32:
        raise ConfigError(f"seed={seed}: must be a whole number from 0 to 2**32 - 1.")
    if not isinstance(tree["keep_checkpoints"], bool):
        raise ConfigError(f"keep_checkpoints={tree['keep_checkpoints']}: must be true or false.")
    rerun = {True: "yes", False: "no"}.get(tree["rerun"], tree["rerun"])
    if rerun not in ("no", "yes", "stale"):
        raise ConfigError(f"rerun={rerun}: must be true, false or stale.")
    check_targets(tree, tuple(str(name) for name in tree["allow"] or ()))
    return Settings(
        tree=tree,
        choices=dict(choices),
        seed=seed,
        metrics=metrics,
        data=data,
        trainer=trainer,
        logger=logger,
        dataset=dataset,
        results_dir=Path(str(tree["results_dir"])).expanduser().absolute(),
        cache_dir=Path(str(tree["cache_dir"])).expanduser().absolute(),
        allow=tuple(tree["allow"] or ()),
        keep_checkpoints=tree["keep_checkpoints"],
        rerun=rerun,
    )


def _check_patches(dataset: DatasetSettings) -> None:
    assert dataset.patch is not None
    if len(dataset.patch) != 3 or min(dataset.patch) < 1:
        raise ConfigError(
            f"dataset.patch={dataset.patch}: must be three numbers of voxels: D, H, W."
        )
    if dataset.patches_per_volume < 1:
        raise ConfigError(
            f"dataset.patches_per_volume={dataset.patches_per_volume}: must be at least 1."
        )
    if not 0 <= dataset.patch_foreground <= 1:
        raise ConfigError(
            f"dataset.patch_foreground={dataset.patch_foreground}: must be from 0 to 1."
        )
    if not 0 <= dataset.patch_overlap < 1:
        raise ConfigError(
            f"dataset.patch_overlap={dataset.patch_overlap}: must be from 0 to below 1."
        )


def _resolved(cfg: DictConfig) -> dict[str, Any]:
    missing = OmegaConf.missing_keys(cfg) - {"dataset.root"}  # its class draws the expected tree
    if missing:
        key = sorted(missing)[0]
        raise ConfigError(f"{key}: has no value. Give one on the command line: {key}=...")
    try:
        tree = OmegaConf.to_container(cfg, resolve=True)
    except OmegaConfBaseException as error:
        raise ConfigError(f"{error.full_key}: {str(error).splitlines()[0]}") from None
    assert isinstance(tree, dict)
    if tree["dataset"].get("root") == "???":
        tree["dataset"]["root"] = None
    return tree


def _typed(section: str, schema: type, values: Any) -> Any:
    """Fills a settings class from a section, with OmegaConf's type checks."""
    if not isinstance(values, dict):
        values = "null" if values is None else values
        raise ConfigError(f"{section}={values}: must be a section of keys, not one value.")
    try:
        merged = OmegaConf.merge(OmegaConf.structured(schema), values)
        return OmegaConf.to_object(merged)
    except OmegaConfBaseException as error:
        key = f"{section}.{error.full_key or error.key}"
        value = values.get(str(error.key))
        if "not in" in str(error).splitlines()[0]:
            known = list(schema.__dataclass_fields__)
            hint = _did_you_mean(str(error.key), known)
            raise ConfigError(f"{key}: there is no such key. {hint}") from None
        if "ListConfig" in str(error):
            raise ConfigError(f"{key}={value}: must be a list: {key}=[{value}].") from None
        raise ConfigError(f"{key}={value}: {str(error).splitlines()[0].rstrip('.')}.") from None


def _choice(key: str, value: str, choices: tuple[str, ...]) -> str:
    if value not in choices:
        raise ConfigError(f"{key}={value}: must be one of {', '.join(choices)}.")
    return value


# ---------------------------------------------------------------- build


def check_targets(tree: Any, allow: tuple[str, ...], where: str = "") -> None:
    """Refuses every `_target_` that is not of an allowed package, before anything is called.

    Both the name and what it resolves to must lie in such a package: torch.os.system does not.

    Errors: ConfigError that names the key and how to allow the package.
    """
    if isinstance(tree, list):
        for index, item in enumerate(tree):
            check_targets(item, allow, f"{where.removesuffix('.')}[{index}].")
    if not isinstance(tree, dict):
        return
    for key, value in tree.items():
        if key == "_target_":
            _check_target(str(value), allow, where + key)
        else:
            check_targets(value, allow, f"{where}{key}.")


def _check_target(target: str, allow: tuple[str, ...], key: str) -> None:
    packages = (*ALLOWED, *allow)
    root = target.split(".")[0]
    if root not in packages:
        raise ConfigError(
            f"{key}={target}: package {root} is not among those that may be called "
            f"({', '.join(packages)}). If you trust it: allow=[{root}]."
        )
    try:
        found = get_object(target)
    except Exception as error:  # whatever importing a user's module raises
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ConfigError(f"{key}={target}: cannot be imported. {reason}") from None
    origin = str(getattr(found, "__module__", "") or "").split(".")[0]
    if origin not in packages:
        raise ConfigError(
            f"{key}={target}: this is {origin or type(found).__name__}'s, which is not among the "
            f"packages that may be called ({', '.join(packages)})."
        )


def build(settings: Settings, room: str, **arguments: Any) -> Any:
    """The object that section `room` describes.

    Errors: ConfigError that names configs/<room>/<choice>.yaml and the cause.
    """
    node = dict(settings.tree[room])
    if room == "dataset":
        node = {key: value for key, value in node.items() if key not in DATASET_KEYS}
    file = file_of(settings, room)
    if "_target_" not in node:
        raise ConfigError(f"{file}: has no _target_, so nothing can be built from it.")
    try:
        return instantiate(OmegaConf.create(node), **arguments, _convert_="all")
    except Exception as error:  # anything that a constructor raises
        cause = _root_cause(error)
        if isinstance(cause, UserError):
            raise cause from None
        raise ConfigError(f"{file}: cannot build {room}: {_without_path(cause)}") from error


def file_of(settings: Settings, room: str) -> str:
    """What a message calls a choice: the file, or where it came by --config-dir, group=choice."""
    choice = settings.choices.get(room, "?")
    ours = (CONFIGS / room / f"{choice}.yaml").exists()
    return f"configs/{room}/{choice}.yaml" if ours else f"{room}={choice}"


def numbers_of(settings: Settings, room: str) -> str:
    """' (lr=abc, ...)': the plain values of a section, for a message; '' where there are none."""
    plain = (int, float, str, bool)
    said = [
        f"{room}.{key}={value}"
        for key, value in settings.tree[room].items()
        if isinstance(value, plain) and key != "_target_"
    ]
    return f" ({', '.join(said)})" if said else ""


def _root_cause(error: BaseException) -> BaseException:
    """What Hydra wrapped: a UserError of ours if there is one, else the innermost error."""
    while error.__cause__ is not None and not isinstance(error, UserError):
        error = error.__cause__
    return error


def _without_path(error: BaseException) -> str:
    text = str(error).strip().splitlines()
    return text[0] if text else type(error).__name__


# ---------------------------------------------------------------- at the door


def hydra_flags_only(arguments: list[str]) -> list[str]:
    """The key=value part of a command line."""
    return [a for a in arguments if "=" in a and not a.startswith("-")]


class Started:
    """Set once a configuration is composed: from then on a ValueError is a mistake of ours."""

    yet = False


def guarded(main: Callable[[], Any], arguments: list[str]) -> int:
    """Runs a command; what the user can mend is printed in one message, without a traceback.

    Returns the exit code.
    """
    try:
        main()
    except UserError as error:
        print(f"Error: {error}", file=sys.stderr)  # noqa: T201 - the message is the product
        return error.exit_code
    except (HydraException, OmegaConfBaseException) as error:
        cause = _root_cause(error)
        ours = isinstance(cause, UserError)
        message = cause if ours else explain(error, hydra_flags_only(arguments))
        print(f"Error: {message}", file=sys.stderr)  # noqa: T201
        return 1
    except OSError as error:
        if error.strerror is None:
            raise
        where = f"{error.filename}: " if error.filename else ""
        print(f"Error: {where}{error.strerror}.", file=sys.stderr)  # noqa: T201
        return 1
    except (yaml.YAMLError, ValueError) as error:
        if Started.yet:
            raise
        print(f"Error: {explain(error, hydra_flags_only(arguments))}", file=sys.stderr)  # noqa: T201
        return 1
    except KeyboardInterrupt:
        print("Interrupted.", file=sys.stderr)  # noqa: T201
        return 130
    return 0
