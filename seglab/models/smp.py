"""Networks of segmentation-models-pytorch (https://github.com/qubvel-org/segmentation_models.pytorch).

Encoders are pretrained (`weights`), decoders start at random. The library builds the network and
names the published weights; loading them is done here, so that a file from another machine serves
as well as the network, a misfit is named key by key, and the random numbers that a network draws
do not depend on the weights.
"""

import difflib
import inspect
import logging
import pickle
from pathlib import Path
from typing import Any

import huggingface_hub
import safetensors.torch
import segmentation_models_pytorch as library
import timm
import torch
from huggingface_hub.errors import LocalEntryNotFoundError
from torch import Tensor, nn

from seglab import files
from seglab.errors import ConfigError

WEIGHTS_FILE = "model.safetensors"  # in every repository of pretrained encoders
SUFFIXES = (".safetensors", ".pth", ".pt")
PATIENCE_SECONDS = 5  # for an answer from the hub
OURS = ("encoder_name", "encoder_weights", "in_channels", "classes")  # arguments that `build` sets
LOGITS_ONLY = ("activation", "aux_params")  # would turn the output into something else
CLASSIFIERS = ("fc", "classifier", "head", "linear", "last_linear")  # what an encoder lacks
NAMES_SHOWN = 10

log = logging.getLogger(__name__)


# ---------------------------------------------------------------- build


def build(
    architecture: str, encoder: str, weights: str | None, classes: int, **options: Any
) -> nn.Module:
    """(B, 3, H, W) float images -> (B, classes, H, W) logits; a network in training mode.

    Args:
        architecture: a class of the library, such as Unet or DeepLabV3Plus; case does not matter.
        encoder: a name of the library's, or tu-<name> for one of timm's.
        weights: imagenet (or another published set of this encoder), None, or a file.
        classes: channels of the logits.
        options: further arguments of the architecture, such as decoder_channels.

    Errors: ConfigError for unknown names, an encoder that the architecture cannot take, and
        weights that cannot be fetched, read or fitted.
    """
    model_class = _architecture(architecture)
    _check_encoder(encoder)
    _check_options(model_class, encoder, options)
    try:
        network = model_class(
            encoder_name=encoder, encoder_weights=None, in_channels=3, classes=classes, **options
        )
    except (ValueError, TypeError, KeyError, RuntimeError, NotImplementedError) as error:
        raise ConfigError(
            f"model.architecture={architecture} with encoder.name={encoder}: cannot be built. "
            f"{_first_line(error)}"
        ) from error
    if weights is not None:
        load_encoder(network.encoder, encoder, weights)
    return network


def num_parameters(model: nn.Module) -> int:
    """Trainable numbers in a network."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def _architecture(name: str) -> type[nn.Module]:
    known = {found.__name__: found for found in library.MODEL_ARCHITECTURES_MAPPING.values()}
    for class_name, found in known.items():
        if class_name.lower() == name.lower():
            return found
    raise ConfigError(
        f"model.architecture={name}: there is no such architecture. "
        f"{_did_you_mean(name, list(known))}Choices: {', '.join(sorted(known))}."
    )


def _check_encoder(name: str) -> None:
    if name.startswith("tu-"):
        if not timm.is_model(name.removeprefix("tu-").split(".")[0]):
            near = _did_you_mean(name, [f"tu-{known}" for known in timm.list_models()])
            raise ConfigError(
                f"encoder.name={name}: timm has no such network. {near}"
                "`python -c 'import timm; print(timm.list_models())'` lists them."
            )
    elif name not in library.encoders.encoders:
        known = list(library.encoders.encoders)
        raise ConfigError(
            f"encoder.name={name}: there is no such encoder. {_did_you_mean(name, known)}"
            f"Choices: {', '.join(known)}; and tu-<name> for those of timm."
        )


def _check_options(model_class: type[nn.Module], encoder: str, options: dict[str, Any]) -> None:
    """The library drops misspelt arguments without a word, except those that timm receives."""
    parameters = inspect.signature(model_class.__init__).parameters
    known = [
        name
        for name, parameter in parameters.items()
        if name not in ("self", *OURS, *LOGITS_ONLY) and parameter.kind != parameter.VAR_KEYWORD
    ]
    for name in options:
        if name in LOGITS_ONLY or (name not in known and not encoder.startswith("tu-")):
            raise ConfigError(
                f"model.{name}: {model_class.__name__} takes no such argument here. "
                f"{_did_you_mean(name, known)}Choices: {', '.join(known)}."
            )


# ---------------------------------------------------------------- weights


def identity(weights: str | None) -> str | None:
    """What a run's identity says of `encoder.weights`: a file by its content, not by its path.

    None -> None, "imagenet" -> "imagenet", a file -> "sha256:<hexadecimal>".

    Errors: ConfigError for a file that cannot be read.
    """
    if weights is None or not _is_file_name(weights):
        return weights
    return f"sha256:{files.sha256_file(_existing(weights))}"


def load_encoder(encoder: nn.Module, name: str, weights: str) -> None:
    """Fills an encoder in place; every parameter and statistic must be there and fit.

    Left out, and said, are a classifier's keys and, in a file of a whole network, everything that
    is not under "encoder.". An old file without the counters of batch normalisation will do.

    Args:
        encoder: of a network of `build`.
        name: its name, as in the configuration.
        weights: a published set ("imagenet") or a file: .safetensors, or .pth and .pt, which are
            read without running the code that they might hold.

    Errors: ConfigError, key encoder.weights.
    """
    path = _existing(weights) if _is_file_name(weights) else _published(name, weights)
    found, left_out = _encoder_part(_read(path, weights), encoder, name)
    expected = encoder.state_dict()
    missing = [k for k in expected if k not in found and not k.endswith("num_batches_tracked")]
    misfit = [
        f"{k} (file {list(found[k].shape)}, network {list(expected[k].shape)})"
        for k in expected
        if k in found and found[k].shape != expected[k].shape
    ]
    unknown = [k for k in found if k not in expected]
    faults = [
        f"{len(keys)} {what}: {_some(keys)}"
        for what, keys in (("missing", missing), ("of another shape", misfit), ("unknown", unknown))
        if keys
    ]
    if faults:
        raise ConfigError(
            f"encoder.weights={weights}: does not fit encoder.name={name}. {'; '.join(faults)}. "
            "Is it the file of another encoder?"
        )
    if left_out:
        log.warning(
            "encoder.weights=%s: not part of the encoder, left out: %s", weights, _some(left_out)
        )
    # not encoder.load_state_dict: the library's own overrides it, and some drop `strict`
    nn.Module.load_state_dict(encoder, expected | found)


def _is_file_name(weights: str) -> bool:
    return bool(Path(weights).suffix) or "/" in weights


def _existing(weights: str) -> Path:
    path = Path(weights).expanduser()
    if path.is_dir():
        raise ConfigError(f"encoder.weights={weights}: this is a folder. Name the file in it.")
    if not path.exists():
        raise ConfigError(
            f"encoder.weights={weights}: there is no such file. "
            "encoder.weights is imagenet, null, or the path of a file."
        )
    if path.suffix not in SUFFIXES:
        raise ConfigError(
            f"encoder.weights={weights}: cannot read {path.suffix or 'a file without a suffix'}. "
            f"Known suffixes: {', '.join(SUFFIXES)}."
        )
    return path


def _read(path: Path, weights: str) -> dict[str, Tensor]:
    try:
        if path.suffix == ".safetensors":
            return safetensors.torch.load_file(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ConfigError(
            f"encoder.weights={weights}: is damaged, or holds more than tensors, which could run "
            "code and is not read. Save the state_dict alone, best as .safetensors."
        ) from error
    except Exception as error:  # a damaged file can raise nearly anything
        raise ConfigError(
            f"encoder.weights={weights}: is not a whole {path.suffix} file ({_first_line(error)})."
        ) from error
    if isinstance(content, dict) and isinstance(content.get("state_dict"), dict):
        content = content["state_dict"]
    if not isinstance(content, dict) or not content:
        raise ConfigError(f"encoder.weights={weights}: holds no state_dict.")
    odd = [str(key) for key, value in content.items() if not isinstance(value, Tensor)]
    if odd:
        raise ConfigError(
            f"encoder.weights={weights}: is no state_dict, for these are not tensors: {_some(odd)}."
        )
    return content


def _encoder_part(
    content: dict[str, Tensor], encoder: nn.Module, name: str
) -> tuple[dict[str, Tensor], list[str]]:
    """The content under the encoder's own keys, and the names of what is not the encoder's."""
    for prefix in ("module.", "model."):
        if all(key.startswith(prefix) for key in content):
            content = {key.removeprefix(prefix): value for key, value in content.items()}
    left_out: list[str] = []
    if any(key.startswith("encoder.") for key in content):
        left_out += [key for key in content if not key.startswith("encoder.")]
        content = {
            key.removeprefix("encoder."): value
            for key, value in content.items()
            if key.startswith("encoder.")
        }
    if name.startswith("tu-"):
        # timm's feature extractors flatten module names (stages.0 -> stages_0) and lack the layers
        # behind the last feature map, whatever these are called
        own = {_flat(key): key for key in encoder.state_dict()}
        left_out += [key for key in content if _flat(key) not in own]
        return {own[_flat(k)]: v for k, v in content.items() if _flat(k) in own}, left_out
    own_keys = encoder.state_dict()
    classifier = [
        key for key in content if key not in own_keys and key.split(".")[0] in CLASSIFIERS
    ]
    kept = {key: value for key, value in content.items() if key not in classifier}
    return kept, left_out + classifier


def _flat(key: str) -> str:
    while key.startswith("model."):
        key = key.removeprefix("model.")
    return key.replace(".", "_")


def _published(name: str, weights: str) -> Path:
    """A published set of weights, from the cache of huggingface_hub or from the network."""
    repository, revision = _repository(name, weights)
    try:
        return Path(
            huggingface_hub.hf_hub_download(
                repository, WEIGHTS_FILE, revision=revision, local_files_only=True
            )
        )
    except LocalEntryNotFoundError:
        pass
    try:
        # Asked once first: hf_hub_download retries for half a minute where there is no network.
        address = huggingface_hub.hf_hub_url(repository, WEIGHTS_FILE, revision=revision)
        huggingface_hub.get_hf_file_metadata(address, timeout=PATIENCE_SECONDS)
        return Path(
            huggingface_hub.hf_hub_download(
                repository, WEIGHTS_FILE, revision=revision, etag_timeout=PATIENCE_SECONDS
            )
        )
    except Exception as error:  # of the network, a proxy, the hub or the disk: many classes
        folder = f"models--{repository.replace('/', '--')}"
        raise ConfigError(
            f"encoder.weights={weights}: cannot fetch {WEIGHTS_FILE} of {repository} at revision "
            f"{revision} ({_first_line(error)}). On a machine with a network:\n"
            f"    hf download {repository} {WEIGHTS_FILE} --revision {revision}\n"
            f"It prints where the file is. Copy it here and pass encoder.weights=path/to/"
            f"{WEIGHTS_FILE}; or copy the folder {folder} that holds it into "
            f"{huggingface_hub.constants.HF_HUB_CACHE} and keep encoder.weights={weights}. "
            "Without pretrained weights: encoder.weights=null."
        ) from error


def _repository(name: str, weights: str) -> tuple[str, str]:
    """(repository, revision) of published weights; those of timm are not pinned to a revision."""
    if name.startswith("tu-"):
        settings = timm.get_pretrained_cfg(name.removeprefix("tu-"))
        published = {"imagenet": settings.hf_hub_id} if settings and settings.hf_hub_id else {}
        if weights in published:
            return published[weights], "main"
    else:
        table = library.encoders.encoders[name]["pretrained_settings"]
        if weights in table:
            return table[weights]["repo_id"], table[weights]["revision"]
        published = table
    raise ConfigError(
        f"encoder.weights={weights}: there is no such set of weights for encoder.name={name}. "
        f"{_did_you_mean(weights, list(published))}"
        f"Choices: {', '.join([*published, 'null'])}, or the path of a file."
    )


# ---------------------------------------------------------------- words


def _did_you_mean(word: str, known: list[str]) -> str:
    by_lower = {name.lower(): name for name in known}
    near = difflib.get_close_matches(word.lower(), by_lower, n=3, cutoff=0.6)
    return f"Did you mean {' or '.join(by_lower[name] for name in near)}? " if near else ""


def _some(names: list[str]) -> str:
    more = len(names) - NAMES_SHOWN
    return ", ".join(names[:NAMES_SHOWN]) + (f" and {more} more" if more > 0 else "")


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__
