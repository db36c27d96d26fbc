"""One run on disk: its name, its folder, its lock, its record. No torch.

A run is drafted in `<results>/drafts/<run_id>/` and renamed to `<results>/runs/<run_id>/` when it
is whole, so that whatever lies in runs/ is finished. The same experiment has the same `run_id` on
every machine: readable choices and a hash of all that can change its numbers.
"""

import contextlib
import csv
import functools
import importlib.metadata
import importlib.util
import io
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from seglab import files
from seglab.errors import RunError

HERE = Path(__file__).parent
SCHEMA = 1
SCIENTIFIC = ("dataset", "model", "encoder", "loss", "optimizer", "metrics", "seed")
UNCHANGED = "seglab.postprocess.Unchanged"  # predictions are counted as they are
NOT_SCIENTIFIC = {"dataset": ("root", "recipe")}
PACKAGES = [
    "torch",
    "lightning",
    "segmentation-models-pytorch",
    "timm",
    "albumentations",
    "opencv-python-headless",
    "numpy",
    "scipy",
    "edt",
    "pandas",
    "hydra-core",
    "omegaconf",
]
COUNTED = ("epochs.csv", "images.parquet")  # what a run's numbers are read from
NUMBER = (int, float)
MODULE = "module "  # before the name of a module of the user's own
SHAPE: dict[str, Any] = {  # of a finished run's record: what is relied on by whoever reads runs
    "run_id": str,
    "seed": int,
    "science": {"encoder": {"name": str}, "metrics": {"boundary_ratios": [NUMBER]}},
    "choices": {"dataset": str, "model": str, "loss": str},
    "dataset": {"test_split": str},
    "best_epoch": int,
    "train_seconds": NUMBER,
    "peak_memory_bytes": NUMBER,
}
MAPPINGS = dict.fromkeys(  # of its section science, where it has them
    ("dataset", "model", "loss", "optimizer", "training"), (dict, type(None))
)
NUMBERS_COME_FROM = [
    "ops.py",
    "distance.py",
    "kernels",
    "losses",
    "metrics",
    "scores.py",
    "data",
    "models",
    "engine.py",
    "experiment.py",
    "feed.py",
    "ledger.py",
    "checkpoint.py",
    "inference.py",
    "postprocess.py",
]


# ---------------------------------------------------------------- identity


def science(
    tree: dict[str, Any], training: dict[str, Any], weights: str | None, fingerprint: str | None
) -> dict[str, Any]:
    """All that can change the numbers of a run, and nothing else.

    Args:
        tree: the resolved configuration.
        training: what of section `trainer` matters (precision, epochs, batch size, limits).
        weights: models' identity of encoder.weights: a file by its content, not by its path.
        fingerprint: of the data; None where it is not known.
    """
    kept = {section: tree[section] for section in SCIENTIFIC}
    for section, keys in NOT_SCIENTIFIC.items():
        kept[section] = {k: v for k, v in kept[section].items() if k not in keys}
    for section in ("model", "encoder"):
        kept[section] = {k: (weights if k == "weights" else v) for k, v in kept[section].items()}
    return {**kept, **_since_added(tree), "training": training, "data": fingerprint}


def _since_added(tree: dict[str, Any]) -> dict[str, Any]:
    """What came later. A run that takes nothing of it keeps the name that it had."""
    augmentation, postprocess = tree.get("augmentation") or {}, tree.get("postprocess") or {}
    found: dict[str, Any] = {}
    if augmentation.get("train") or augmentation.get("evaluation"):
        found["augmentation"] = augmentation
    if postprocess.get("_target_", UNCHANGED) != UNCHANGED:
        found["postprocess"] = postprocess
    if not tree["metrics"].get("further"):
        kept = {k: v for k, v in tree["metrics"].items() if not k.startswith("further")}
        found["metrics"] = kept
    return found


def run_id(choices: dict[str, str], encoder: str, seed: int, hash_: str) -> str:
    """'nuclei-unet-resnet34-dist-s42-1a2b3c4d5e6f'."""
    parts = (choices["dataset"], choices["model"], encoder, choices["loss"], f"s{seed}", hash_[:12])
    return "-".join(str(part).replace("/", "_") for part in parts)


def code_in_use(tree: dict[str, Any] | None = None) -> dict[str, str]:
    """Name -> hash of the source files that make numbers and are loaded in this process.

    Another loss or another data set may change, or come, and a run stays what it was.

    Args:
        tree: a configuration: modules of the user's own that its `_target_`s name are among them.
            (Of an installed package the record has the version.)
    """
    loaded = {getattr(module, "__file__", None) for module in list(sys.modules.values())}
    names = {
        path.relative_to(HERE).as_posix()
        for path in (Path(file) for file in loaded if file)
        if path.is_relative_to(HERE)
    }
    kept = [name for name in sorted(names) if name.split("/")[0] in NUMBERS_COME_FROM]
    kept += [f"{MODULE}{name}" for name in sorted(_own_modules(tree))]
    return {name: _hash_of(name) for name in kept}


def changed_code(code: dict[str, str]) -> list[str]:
    """The files of `code_in_use` that are no longer what they were.

    A module of the user's own that cannot be found from here is taken as unchanged.
    """
    now = {name: _hash_of(name) for name in code}
    return [
        name
        for name, hash_ in code.items()
        if now[name] != hash_ and (now[name] != "gone" or not name.startswith(MODULE))
    ]


@functools.cache
def _hash_of(name: str) -> str:
    path = _file_of_module(name.removeprefix(MODULE)) if name.startswith(MODULE) else HERE / name
    return files.sha256_file(path)[:16] if path and path.exists() else "gone"


def _file_of_module(name: str) -> Path | None:
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError):  # its package is not there; __main__
        return None
    return Path(spec.origin) if spec and spec.has_location and spec.origin else None


def _own_modules(tree: Any) -> set[str]:
    """Modules of the `_target_`s that are neither ours nor of an installed package."""
    if isinstance(tree, list):
        return set().union(*map(_own_modules, tree))
    if not isinstance(tree, dict):
        return set()
    found = set().union(*map(_own_modules, tree.values()))
    name = str(tree.get("_target_", ""))
    while name and name not in sys.modules:
        name = name.rpartition(".")[0]
    path = getattr(sys.modules.get(name), "__file__", None)
    installed = not path or {"site-packages", "dist-packages"} & set(Path(path).parts)
    return found if installed or Path(path).is_relative_to(HERE) else found | {name}


def code_hash() -> str:
    """Hash of all source files that make numbers."""
    rooms = [HERE / name for name in NUMBERS_COME_FROM]
    return files.sha256_tree(
        [
            path
            for room in rooms
            for path in ([room] if room.suffix else sorted(room.rglob("*.py")))
        ],
        HERE,
    )


def stale_reason(found: dict[str, Any], science: dict[str, Any]) -> str | None:
    """Why a finished run no longer is what the same command would give; None where it is.

    Args:
        found: the record of a run whose science is `science`, but perhaps for the data.
    """
    if found["science"]["data"] != science["data"]:
        return "it was trained on other data"
    code = found.get("code")
    if not isinstance(code, dict):
        return "its record does not say which code made it"
    changed = changed_code(code)
    if changed:
        shown = ", ".join(changed[:3]) + ", ..." * (len(changed) > 3)
        return f"the code that makes its numbers has changed since: {shown}"
    return None


def plane_key(loss: dict[str, Any]) -> str:
    """Stands for all that changes a loss's plane of weights: its section, and the code."""
    code = [HERE / "distance.py", *sorted((HERE / "losses").rglob("*.py"))]
    return files.sha256_json([loss, files.sha256_tree(code, HERE)])


# ---------------------------------------------------------------- provenance


def provenance(tree: dict[str, Any] | None = None) -> dict[str, Any]:
    """Commit and uncommitted change of the checkout, source files, versions, machine."""
    return {
        **_git(Path(__file__).resolve().parents[1]),
        "code": code_in_use(tree),
        "versions": {"python": platform.python_version(), **_versions()},
        "platform": platform.platform(),
    }


def _versions() -> dict[str, str]:
    found = {}
    for package in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[package] = importlib.metadata.version(package)
    return found


def _git(folder: Path) -> dict[str, str | None]:
    """commit and diff of the checkout that `folder` is; None where it is none."""

    def git(*arguments: str) -> str | None:
        try:
            done = subprocess.run(
                ["git", "-C", str(folder), *arguments], capture_output=True, text=True, timeout=20
            )
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout if done.returncode == 0 else None

    top = git("rev-parse", "--show-toplevel")
    if top is None or Path(top.strip()) != folder:
        return {"commit": None, "diff": None}
    return {
        "commit": (git("rev-parse", "HEAD") or "").strip() or None,
        "diff": git("diff", "HEAD", "--", "*.py", "*.yaml", ":(exclude)results") or None,
    }


def machine_memory_bytes() -> int:
    """Bytes of main memory."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def now() -> str:
    """UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


# ---------------------------------------------------------------- folder


@dataclass(frozen=True)
class RunFolder:
    """Where one run is drafted, and where it goes when it is whole."""

    results: Path
    id: str

    @property
    def draft(self) -> Path:
        """The folder of an unfinished run."""
        return self.results / "drafts" / self.id

    @property
    def final(self) -> Path:
        """The folder of a finished run."""
        return self.results / "runs" / self.id

    def is_finished(self) -> bool:
        """Whether the whole run lies in its place. Errors: RunError where it was damaged since.

        Its weights may have been removed: the numbers stay.
        """
        if not self.final.exists():
            return False
        read_finished(self.final)
        return True

    @property
    def lock(self) -> Path:
        """The file that a process locks while it works on the run."""
        return self.draft.with_name(f".{self.id}.lock")

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """No second process works on this run meanwhile. Errors: RunError naming the holder."""
        with files.locked(self.lock, f"run {self.id}"):
            yield

    def open_draft(self) -> None:
        """Makes the draft folder, and clears what a killed writer left in it."""
        self.draft.mkdir(parents=True, exist_ok=True)
        files.remove_leftovers(self.draft)

    def before_the_data_changed(self, science: dict[str, Any], root: str | None) -> list[Path]:
        """Finished runs of the same experiment on what the same data folder held before."""
        found = []
        for folder in sorted(self.final.parent.glob(self.id.rpartition("-")[0] + "-*")):
            theirs = read_record(folder).get("science", {})
            if folder != self.final and {**theirs, "data": science["data"]} == science:
                tree = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))
                if tree["dataset"].get("root") == root:
                    found.append(folder)
        return found

    def publish(self, instead_of: Iterable[Path] = ()) -> None:
        """Draft -> final, in one rename. What it replaces is kept in `<results>/replaced/`."""
        self.final.parent.mkdir(parents=True, exist_ok=True)
        for previous in self.draft.glob("*.previous"):
            previous.unlink()
        for old in instead_of:
            kept = self.results / "replaced" / f"{old.name}-{old.stat().st_mtime_ns}"
            kept.parent.mkdir(parents=True, exist_ok=True)
            os.replace(old, kept)
        os.replace(self.draft, self.final)
        files.flush_folder(self.final.parent)


def check_writable(results: Path) -> None:
    """Errors: RunError naming `results_dir` where nothing can be written."""
    probe = results / "drafts" / f".probe-{os.getpid()}"
    try:
        probe.parent.mkdir(parents=True, exist_ok=True)
        probe.write_text("")
        probe.unlink()
    except OSError as error:
        raise RunError(
            f"results_dir={results}: cannot be written ({error.strerror}). "
            "Mend its permissions, or give another folder: results_dir=..."
        ) from None


# ---------------------------------------------------------------- files of a run


def write_epochs(folder: Path, rows: list[dict[str, Any]]) -> None:
    """epochs.csv: one row per epoch and split."""
    if rows:
        text = io.StringIO()
        writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        files.write_text(folder / "epochs.csv", text.getvalue())


def write_images(folder: Path, table: pd.DataFrame) -> None:
    """images.parquet: one row per checkpoint, split, image and class."""
    files.write_atomic(folder / "images.parquet", lambda path: table.to_parquet(path, index=False))


def write_record(folder: Path, record: dict[str, Any]) -> None:
    """record.json; NaN, which JSON does not have, becomes null."""
    files.write_json(folder / "record.json", _without_nan(record))


def read_record(folder: Path) -> dict[str, Any]:
    """record.json, or an empty dict where there is none yet. Errors: RunError if unreadable."""
    path = folder / "record.json"
    if not path.exists():
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(found, dict):
            raise ValueError("it is no mapping")
    except (OSError, ValueError) as error:
        raise RunError(
            f"{path}: cannot be read ({error}). Delete the folder to start anew."
        ) from None
    return found


def read_finished(folder: Path) -> dict[str, Any]:
    """The record of a finished run, with all that its readers rely on.

    Errors: RunError naming what is missing or is something else.
    """
    found = read_record(folder)
    status = found.get("status")
    if status != "finished":
        how = f"is {status}" if status else "holds no finished run (record.json says none)"
        raise RunError(f"{folder}: {how}. Delete the folder to run anew.")
    for name in COUNTED:
        if not (folder / name).exists():
            raise RunError(f"{folder}: has lost its {name}. Delete the folder to run anew.")
    wrong = faults(found, SHAPE) or faults(found["science"], MAPPINGS, "science.", optional=True)
    if wrong:
        raise RunError(
            f"{folder / 'record.json'}: {', '.join(wrong)}: missing, or not what a run writes. "
            "Delete the folder to run anew."
        )
    return found


def faults(
    found: dict[str, Any], shape: dict[str, Any], at: str = "", *, optional: bool = False
) -> list[str]:
    """The keys of a record whose value is missing or of another kind than `shape` says.

    Args:
        shape: key -> a shape of its own for a mapping; [kind] for a list of that, not empty; a set
            for one of its words; else what isinstance takes.
        at: what the keys stand in, for their names.
        optional: whether a key may be missing, and what has a shape of its own be no mapping.
    """
    wrong = []
    for key, kind in shape.items():
        value = found.get(key)
        if optional and key not in found:
            continue
        if isinstance(kind, dict):
            if isinstance(value, dict):
                wrong += faults(value, kind, f"{at}{key}.", optional=optional)
            elif not optional:
                wrong.append(f"{at}{key}")
        elif not _is(value, kind):
            wrong.append(f"{at}{key}")
    return wrong


def _is(value: Any, kind: Any) -> bool:
    if isinstance(kind, list):
        return isinstance(value, list) and bool(value) and all(_is(v, kind[0]) for v in value)
    if isinstance(kind, set):
        return isinstance(value, str) and value in kind
    return isinstance(value, kind)


def digests(folder: Path) -> dict[str, str]:
    """What the record keeps of the files that the numbers are read from: name -> sha256."""
    return {name: files.sha256_file(folder / name) for name in COUNTED}


def check_digest(found: dict[str, Any], path: Path) -> None:
    """Older runs kept no digest.

    Errors: RunError where a file no longer is what the run wrote; OSError where it is gone.
    """
    kept = (found.get("files") or {}).get(path.name)
    if kept is not None and files.sha256_file(path) != kept:
        raise RunError(
            f"{path}: is not what the run wrote: it was cut or changed since. "
            "Delete the run to do it again."
        )


def note_death(results: Path, pid: int, reason: str) -> None:
    """Says in the record of the run that process `pid` was doing that it died, and of what."""
    for folder in (results / "drafts").glob("*/"):
        with contextlib.suppress(RunError):
            found = read_record(folder)
            if found.get("status") == "running" and found.get("pid") == pid:
                write_record(folder, {**found, "status": "interrupted", "reason": reason})


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _without_nan(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(v) for v in value]
    if isinstance(value, float) and value != value:
        return None
    return value


class Stopwatch:
    """Seconds per phase of a run."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextlib.contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Adds the block's time to phase `name`."""
        start = time.perf_counter()
        try:
            yield
        finally:
            spent = time.perf_counter() - start
            self.seconds[name] = self.seconds.get(name, 0.0) + spent
