"""What a loss holds: python scripts/check_loss.py TARGET [key=value ...]

TARGET is a name in configs/loss (dist), a file of yours (theirs.yaml), or module:Class of any
package (segmentation_models_pytorch.losses:DiceLoss) or of a file in the current folder
(my_module:MyLoss, for my_module.py); key=value are its arguments. A class that takes a `mode` is
given binary and multiclass in turn; --task is for one that is made for either.
Each check ends in pass, fail with the counter-example, or not promised. The exit code is 1 where
something fails.
"""

import argparse
import importlib
import inspect
import json
import os
import subprocess
import sys
from functools import partial
from typing import Any

import torch
import yaml
from bench_measure import KEEPS_MEMORY, RETURNS_MEMORY, Group, peaks_in_children, timed
from hydra.utils import instantiate
from omegaconf import OmegaConf

from seglab import config, conformance
from seglab.errors import ConfigError

TASKS = {"binary": 1, "multiclass": 4}  # channels
MEGAPIXEL = 2**20
SIDE, TINY = 512, 16
ROUNDS = 5


def main() -> int:
    """Prints the card; returns the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("target", metavar="TARGET")
    parser.add_argument("arguments", metavar="key=value", nargs="*")
    parser.add_argument("--task", choices=TASKS, help="this one alone")
    parser.add_argument("--no-cost", action="store_true", help="leave out time and memory")
    parser.add_argument("--peaks", type=int, help=argparse.SUPPRESS)  # see peaks()
    given = parser.parse_args()
    torch.set_num_threads(1)
    sys.path.insert(0, os.getcwd())  # a module of yours lies there, and Python looks beside scripts
    if given.peaks:
        loss = built(given.target, given.arguments, given.peaks)
        small, large = (partial(contenders, loss, given.peaks, side) for side in (TINY, SIDE))
        print(json.dumps(peaks_in_children(small, large, ("loss", "ce"))))
        return 0
    failed = 0
    for task in [given.task] if given.task else TASKS:
        channels = TASKS[task]
        loss = built(given.target, given.arguments, channels)
        print(f"{given.target}, {'binary' if channels == 1 else f'{channels} classes'}")
        for finding in conformance.examine(loss, channels):
            failed += finding.verdict == "fail"
            print(f"  {finding.verdict:<13}{finding.check:<13}{finding.said or finding.promise}")
            if finding.verdict == "fail":
                print(f"{'':28}expected: {finding.promise}")
        if not given.no_cost and conformance.is_for(loss, channels):
            print(f"  {cost(given, loss, channels)}")
    print("everything holds" if not failed else f"{failed} checks fail")
    return int(failed > 0)


def built(target: str, arguments: list[str], channels: int) -> Any:
    """The loss for a task. Errors: ConfigError that says what is wrong with TARGET."""
    if target.endswith((".yaml", ".yml")):
        return of_file(target)
    if ":" not in target:
        overrides = [f"loss.{argument}" for argument in arguments]
        settings = config.read(*config.compose([f"loss={target}", "logger=none", *overrides]))
        return config.build(settings, "loss")
    module, _, name = target.partition(":")
    try:
        made = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"{target}: cannot be imported. {error}") from None
    named = dict(argument.partition("=")[::2] for argument in arguments)
    values = {key: yaml.safe_load(value) for key, value in named.items()}
    if "mode" in inspect.signature(made).parameters:
        values.setdefault("mode", "binary" if channels == 1 else "multiclass")
    try:
        return made(**values)
    except Exception as error:  # whatever a constructor raises
        raise ConfigError(
            f"{target}: cannot be built with {values or 'no arguments'}: {error}. "
            "Give its arguments as key=value."
        ) from None


def of_file(path: str) -> Any:
    """The loss of a YAML file. Errors: ConfigError that names the file."""
    try:
        return instantiate(OmegaConf.load(path), _convert_="all")
    except OSError:
        raise ConfigError(f"{path}: there is no such file.") from None
    except Exception as error:  # whatever a constructor raises
        raise ConfigError(f"{path}: cannot be built: {error}") from None


def contenders(loss: Any, channels: int, side: int) -> Group:
    """The loss and PyTorch's cross-entropy on one image, forward and backward."""
    logits, target = conformance.draw(0, channels, side, images=1, ignored=0.0)
    logits.requires_grad_()
    plain = torch.nn.BCEWithLogitsLoss() if channels == 1 else torch.nn.CrossEntropyLoss()

    def theirs(z: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return plain(z[:, 0], labels.float()) if channels == 1 else plain(z, labels)

    def run(one: Any) -> None:
        logits.grad = None
        one(logits, target).backward()

    return Group({"loss": lambda: run(loss), "ce": lambda: run(theirs)}, [])


def cost(given: argparse.Namespace, loss: Any, channels: int) -> str:
    """Milliseconds and MiB for a megapixel, beside cross-entropy."""
    try:
        contenders(loss, channels, SIDE).contenders["loss"]()
    except Exception as error:  # whatever a loss raises: the card has said it
        return f"cost: not measured ({str(error).splitlines()[0] if str(error) else error!r})"
    share = MEGAPIXEL / (SIDE * (SIDE + 3))
    seconds = timed(contenders(loss, channels, SIDE).contenders, ROUNDS, "cpu")
    ms = {name: 1e3 * share * min(times) for name, times in seconds.items()}
    found = peaks(given, channels)
    mib = {name: f"{share * found[name] / 2**20:.0f}" if name in found else "?" for name in ms}
    return (
        f"cost of a megapixel, one thread: {ms['loss']:.1f} ms and {mib['loss']} MiB; "
        f"PyTorch's cross-entropy {ms['ce']:.1f} ms and {mib['ce']} MiB"
    )


def peaks(given: argparse.Namespace, channels: int) -> dict[str, int]:
    """Peak extra bytes of both, in a fresh process: a warm one hides the memory that it reuses."""
    command = [sys.executable, __file__, given.target, *given.arguments, "--peaks", str(channels)]
    environment = {k: v for k, v in os.environ.items() if k not in KEEPS_MEMORY}
    done = subprocess.run(
        command, env=environment | RETURNS_MEMORY, capture_output=True, text=True, check=False
    )
    return json.loads(done.stdout.splitlines()[-1]) if done.returncode == 0 else {}


def guarded() -> None:
    """Ends with the exit code of the card."""
    code = main()
    if code:
        sys.exit(code)


if __name__ == "__main__":
    sys.exit(config.guarded(guarded, sys.argv[1:]))
