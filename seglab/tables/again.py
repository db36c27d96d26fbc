"""The command line that makes further runs of the protocol that a table shows."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from seglab.errors import UserError
from seglab.tables.readings import Reading

# overrides -> the whole configuration, resolved, and the chosen file of each group
Composed = Callable[[tuple[str, ...]], tuple[dict[str, Any], dict[str, str]]]
GROUPS = ("dataset", "augmentation", "optimizer", "postprocess")  # of a protocol
SECTIONS = {**{group: group for group in (*GROUPS, "metrics")}, "trainer": "training"}  # in science
PLAIN = re.compile(r"[\w./-]+", re.ASCII)


def command(readings: list[Reading], cells: str, composed: Composed | None) -> str:
    """The command, in words.

    Args:
        readings: runs of one data set and one protocol.
        cells: which network and losses, as overrides.
        composed: tells what need not be said; without it, everything is.
    """
    record = readings[0].run.record
    choices = record["choices"]
    experiments = {reading.run.record["choices"].get("experiment") for reading in readings}
    experiment = experiments.pop() if len(experiments) == 1 else None
    named = [f"experiment={experiment}"] if experiment not in (None, "None") else []
    said = named or [f"dataset={choices['dataset']}"]
    default, chosen = _default(said, composed)
    said += [f"{g}={choices[g]}" for g in GROUPS if choices.get(g, chosen.get(g)) != chosen.get(g)]
    default, _ = _default(said, composed)
    seeds = sorted({reading.run.record["seed"] for reading in readings})
    if seeds != [default.get("seed")]:
        said.append(f"seed={','.join(map(str, seeds))}")
    said.append(cells)
    if "root" in default.get("dataset", {}):
        said.append("dataset.root=...")
    science = record["science"]
    for section, kept in SECTIONS.items():
        said += _differences(science.get(kept) or {}, default.get(section) or {}, section, default)
    weights = science["encoder"].get("weights")
    if weights != default.get("encoder", {}).get("weights", "unknown"):
        said.append("encoder.weights=" + ("..." if ":" in str(weights) else _text(weights)))
    said += _results(readings[0].run.folder.parents[1], default)
    line = " ".join(dict.fromkeys(said))
    unsaid = "; where ... stands, the config.yaml of a run has the value" if "=..." in line else ""
    return f"`python train.py -m {line}`, which skips what is done{unsaid}"


def _default(said: list[str], composed: Composed | None) -> tuple[dict[str, Any], dict[str, str]]:
    """What a command line gives; nothing where that cannot be told, as of files of the user's."""
    try:
        return composed(tuple(said)) if composed else ({}, {})
    except UserError:
        return {}, {}


def _differences(
    found: dict[str, Any], default: dict[str, Any], at: str, known: dict[str, Any]
) -> Iterator[str]:
    """Overrides that make `default` the section `found`, called `at`, of `known`."""
    for key, value in found.items():
        usual = default.get(key)
        if isinstance(value, dict) and (isinstance(usual, dict) or key not in default):
            yield from _differences(value, usual or {}, f"{at}.{key}", known)
        elif key != "_target_" and (key not in default or value != usual):
            new = "++" if known and key not in default else ""
            text = f"{new}{at}.{key}={_text(value)}"
            yield f"'{text}'" if re.search(r"[{\"]", text) else text


def _results(folder: Path, default: dict[str, Any]) -> list[str]:
    usual = default.get("results_dir")
    if usual is None or Path(usual).resolve() == folder.resolve():
        return []
    text = f"results_dir={_text(str(folder))}"
    return [f"'{text}'" if '"' in text else text]


def _text(value: Any) -> str:
    """A value as Hydra reads it; ... where it is too long for a command line."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, dict):
        return "{" + ",".join(f"{key}:{_text(each)}" for key, each in value.items()) + "}"
    if isinstance(value, list):
        texts = [_text(each) for each in value if not isinstance(each, dict)]
        return f"[{','.join(texts)}]" if len(texts) == len(value) else "..."
    text = str(value)
    if PLAIN.fullmatch(text):
        return text
    return "..." if set(text) & set("\"'\\") else f'"{text}"'
