"""Every file of a data set is read once, and every fault is told at once. Imports no torch.

What a check finds is a `Verdict`. It is kept beside a listing of the files (path, size, time of
change), and holds as long as the listing does; so a run asks for the verdict and waits seconds,
not hours. Training refuses a data set with faults.
"""

import json
import os
import shlex
import sys
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from tqdm import tqdm

from seglab.data.reading import FileFaults, stray_labels
from seglab.data.source import IGNORE, Fault, Sample, Source
from seglab.errors import DataError
from seglab.files import sha256_file, sha256_json, write_text

VERDICT_FORMAT = 1  # raised when a verdict of the older code must not be used
SHOWN = 10  # faults in an error message
VOLUMES_AT_A_TIME = 4  # by default; one of 512 x 512 x 160 voxels takes a gigabyte while it is read
UNITS = {2: ("pixels", "rows x columns"), 3: ("voxels", "D x H x W")}

T = TypeVar("T")
R = TypeVar("R")
Progress = Callable[[Iterable[T], int, str], Iterable[T]]


def bar(items: Iterable[T], total: int, what: str) -> Iterable[T]:
    """`items`, with a progress bar on stderr; in a log file a line every half minute."""
    seldom = 0.2 if sys.stderr.isatty() else 30.0
    return tqdm(
        items, total=total, desc=what, unit="image", file=sys.stderr, mininterval=seldom, delay=1
    )


@dataclass(frozen=True)
class Verdict:
    """What a check found.

    Attributes:
        faults: everything that is wrong, always in the same order; empty = fit for training.
        fingerprint: SHA-256 over split, id and content of every sample; the same wherever the
            files lie.
        counts: split -> images.
        histogram: split -> pixels of each class, counted in the images as they are on disk; of a
            binary task (background, foreground). Images that cannot be read are not in it.
        ignored: split -> pixels that the masks leave out.
        shapes: every (rows, columns) that an image has, of volumes (D, H, W), sorted.
    """

    faults: tuple[Fault, ...]
    fingerprint: str
    counts: dict[str, int]
    histogram: dict[str, tuple[int, ...]]
    ignored: dict[str, int]
    shapes: tuple[tuple[int, ...], ...]

    def to_json(self) -> dict[str, Any]:
        """As plain JSON; `from_json` is the way back."""
        plain = {field.name: getattr(self, field.name) for field in fields(self)}
        plain["faults"] = [[fault.path, fault.reason] for fault in self.faults]
        return plain

    @classmethod
    def from_json(cls, plain: Mapping[str, Any]) -> "Verdict":
        """The verdict that `to_json` wrote."""
        return cls(
            faults=tuple(Fault(path, reason) for path, reason in plain["faults"]),
            fingerprint=plain["fingerprint"],
            counts=dict(plain["counts"]),
            histogram={split: tuple(pixels) for split, pixels in plain["histogram"].items()},
            ignored=dict(plain["ignored"]),
            shapes=tuple(tuple(shape) for shape in plain["shapes"]),
        )


def check(
    source: Source, cache_dir: Path, progress: Progress = bar, workers: int | None = None
) -> Verdict:
    """Reads everything, keeps the verdict under `cache_dir`, and returns it.

    Args:
        progress: wraps the samples as they are done: progress(samples, total, what).
        workers: threads; `default_workers`, if None. They change no result.

    Errors: DataError where the folders are not laid out as they should be at all, or where the
    verdict cannot be written. Faults of single files are in the verdict.
    """
    before = _listing(source)  # before reading: what changes meanwhile is then not believed
    found = _checked(source, progress, workers or default_workers(source))
    kept = {"about": _about(source), "listing": before, "verdict": found.to_json()}
    path = _verdict_path(source, cache_dir)
    try:
        write_text(path, json.dumps(kept, separators=(",", ":")) + "\n")
    except OSError as error:
        raise DataError(f"{path}: cannot write the verdict of the check: {error}") from error
    return found


def verdict(
    source: Source, cache_dir: Path, progress: Progress = bar, workers: int | None = None
) -> Verdict:
    """The kept verdict if no file was added, removed or changed since; else checks again.

    Errors: as for `check`.
    """
    return kept_verdict(source, cache_dir) or check(source, cache_dir, progress, workers)


def kept_verdict(source: Source, cache_dir: Path) -> Verdict | None:
    """The verdict of an earlier check, if no file was added, removed or changed since.

    Errors: DataError where the folders are not laid out as they should be at all.
    """
    kept = _kept(source, cache_dir)
    if kept and kept["about"] == _about(source) and kept["listing"] == _listing(source):
        return Verdict.from_json(kept["verdict"])
    return None


def require_clean(
    source: Source, cache_dir: Path, progress: Progress = bar, workers: int | None = None
) -> Verdict:
    """The verdict of a data set without faults.

    Errors: DataError with the number of faults, the first ten, and the command that shows all;
    and as for `check`.
    """
    found = verdict(source, cache_dir, progress, workers)
    refuse_faults(source, found)
    return found


def refuse_faults(source: Source, found: Verdict) -> None:
    """Raises DataError where the verdict has faults."""
    if not found.faults:
        return
    number = len(found.faults)
    shown = "\n".join(f"  {fault}" for fault in found.faults[:SHOWN])
    more = f"\n  and {number - SHOWN} more" * (number > SHOWN)
    raise DataError(
        f"dataset {source.name}: {number} fault{'s' * (number > 1)}"
        f"{f' in {source.root}' if source.root else ''}\n{shown}{more}\n"
        f"To see all, with the same dataset options: {command('check', source)}"
    )


def command(verb: str, source: Source) -> str:
    """The command line that checks ("check") or prepares ("prepare") this data set."""
    own = source.root is not None and not source.root.is_relative_to(Path(__file__).parent)
    root = f" {shlex.quote(f'dataset.root={source.root}')}" if own else ""
    return f"python scripts/data.py {verb} dataset={source.name}{root}"


def source_key(source: Source) -> str:
    """12 hexadecimal digits for this kind of source, with these arguments, at this place."""
    return sha256_json(_identity(source))[:12]


def usable_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def default_workers(source: Source) -> int:
    """Threads that read a data set: one for each usable core; few for volumes, which are large."""
    cores = usable_cores()
    return cores if source.dimensions == 2 else min(cores, VOLUMES_AT_A_TIME)


def in_order(function: Callable[[T], R], items: Iterable[T], workers: int) -> Iterator[R]:
    """function(item) of each item, computed by threads (decoding frees the interpreter), in order.

    At most a few results wait. An exception of `function` is raised at its place.
    """
    with ThreadPoolExecutor(workers) as pool:
        waiting = deque()
        try:
            for item in items:
                waiting.append(pool.submit(function, item))
                if len(waiting) > 4 * workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


@dataclass(frozen=True)
class _Read:
    """What reading one sample showed."""

    faults: list[Fault]
    hashes: list[str]  # of its files; "" for one that is missing
    histogram: np.ndarray | None  # (256,) pixels with each label
    shape: tuple[int, ...] | None


def _checked(source: Source, progress: Progress, workers: int) -> Verdict:
    listed = {split: source.samples(split) for split in source.splits}
    faults = _count_faults(source, {split: len(samples) for split, samples in listed.items()})
    faults += source.layout_faults()
    everything = [(split, sample) for split, samples in listed.items() for sample in samples]
    hashes = _SharedHashes(sample for _, sample in everything)
    results = in_order(lambda item: _read(source, item[1], hashes), everything, workers)
    results = progress(results, len(everything), f"check {source.name}")

    classes = max(source.num_classes, 2)
    totals = {split: np.zeros(256, np.int64) for split in source.splits}
    contents, places, shapes = [], defaultdict(list), set()
    for (split, sample), read in zip(everything, results, strict=True):
        faults += read.faults
        contents.append([split, sample.id, list(sample.region), read.hashes])
        if read.histogram is not None:
            totals[split] += read.histogram
        if read.shape is not None:
            shapes.add(read.shape)
        if read.hashes and read.hashes[0]:
            places[read.hashes[0], sample.region].append((split, sample))
    faults += _twice(source, places)
    return Verdict(
        faults=tuple(dict.fromkeys(faults)),
        fingerprint=_fingerprint(source, contents),
        counts={split: len(samples) for split, samples in listed.items()},
        histogram={split: tuple(pixels[:classes].tolist()) for split, pixels in totals.items()},
        ignored={split: int(pixels[IGNORE]) for split, pixels in totals.items()},
        shapes=tuple(sorted(shapes)),
    )


def _read(source: Source, sample: Sample, hashes: "_SharedHashes") -> _Read:
    faults, arrays = [], []
    for reader in (source.read_image, source.read_mask):
        try:
            arrays.append(reader(sample))
        except FileFaults as error:
            faults += [Fault(_relative(source, path), why) for path, why in error.faults]
        except DataError as error:
            faults.append(Fault(_where(source, sample), str(error)))
    histogram = shape = None
    if len(arrays) == 2:
        image, mask = arrays
        shape = image.shape[: source.dimensions]
        place = _where(source, sample, file=1)
        if mask.shape != shape:
            what, axes = UNITS[source.dimensions]
            reason = f"mask {_by(mask.shape)} {what}, image {_by(shape)} ({axes})"
            faults.append(Fault(place, reason))
        planes = [mask] if mask.ndim == 2 else mask  # a whole volume would take 8 times its memory
        histogram = sum(np.bincount(plane.ravel(), minlength=256) for plane in planes)
        allowed = range(max(source.num_classes, 2))
        stray = stray_labels(histogram, {*allowed, IGNORE})
        if stray:
            faults.append(Fault(place, f"{stray} outside 0 .. {allowed[-1]} and {IGNORE}"))
    return _Read(faults, [hashes.of(path) for path in sample.files], histogram, shape)


class _SharedHashes:
    """SHA-256 of files; computed once for a file that several samples share."""

    def __init__(self, samples: Iterable[Sample]) -> None:
        shared = {path for sample in samples if sample.region for path in sample.files}
        self._known = {path: _hash(path) for path in shared}

    def of(self, path: Path) -> str:
        """Hexadecimal digits, or '' where the file cannot be read."""
        return self._known[path] if path in self._known else _hash(path)


def _hash(path: Path) -> str:
    try:
        return sha256_file(path)
    except OSError:  # the readers say what is wrong with it
        return ""


def _count_faults(source: Source, counts: Mapping[str, int]) -> list[Fault]:
    faults = []
    for split, count in counts.items():
        expected = (source.expected_counts or {}).get(split)
        if expected is not None and count != expected:
            faults.append(Fault(f"split {split}", f"{count} images, expected {expected}"))
        elif count == 0:
            faults.append(Fault(f"split {split}", "no image in it"))
    return faults


def _twice(source: Source, places: Mapping[Any, list[tuple[str, Sample]]]) -> list[Fault]:
    """One fault for each image file whose content is that of an image of another split."""
    faults = []
    for same in places.values():
        first_split, first = same[0]
        for split, sample in same[1:]:
            if split != first_split:
                reason = f"in split {split}, is the same image as {_where(source, first)}"
                faults.append(Fault(_where(source, sample), f"{reason} in split {first_split}"))
    return faults


def _fingerprint(source: Source, contents: list[list[Any]]) -> str:
    return sha256_json(
        {
            "dataset": source.name,
            "version": source.version,
            "classes": source.num_classes,
            "options": source.options() if source.root is None else None,
            "samples": sorted(contents),
        }
    )


def _listing(source: Source) -> dict[str, str]:
    """Relative path -> "bytes time-of-change-in-nanoseconds" of every watched file."""
    listing: dict[str, str] = {}
    if source.root is None:
        return listing
    prefix = len(str(source.root)) + 1
    for path in source.watched():
        if path.is_dir():
            _list_folder(str(path), prefix, listing)
        elif path.exists():
            stat = path.stat()
            listing[str(path)[prefix:]] = f"{stat.st_size} {stat.st_mtime_ns}"
    return listing


def _list_folder(folder: str, prefix: int, listing: dict[str, str]) -> None:
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir():
                _list_folder(entry.path, prefix, listing)
                continue
            try:
                stat = entry.stat()
                listing[entry.path[prefix:]] = f"{stat.st_size} {stat.st_mtime_ns}"
            except FileNotFoundError:  # a link to nowhere
                listing[entry.path[prefix:]] = "missing"


def _identity(source: Source) -> dict[str, Any]:
    kind = type(source)
    return {
        "source": f"{kind.__module__}.{kind.__qualname__}",
        "root": str(source.root),
        "options": source.options(),
    }


def _about(source: Source) -> dict[str, Any]:
    """What besides the files a verdict depends on."""
    samples = [
        [split, sample.id, len(sample.files), list(sample.region)]
        for split in source.splits
        for sample in source.samples(split)
    ]
    about = {
        **_identity(source),
        "format": VERDICT_FORMAT,
        "version": source.version,
        "classes": source.num_classes,
        "expected_counts": source.expected_counts and dict(source.expected_counts),
        "samples": sha256_json(samples),
    }
    return json.loads(json.dumps(about))  # as it comes back from the disk: tuples are lists


def _verdict_path(source: Source, cache_dir: Path) -> Path:
    return Path(cache_dir) / "verdicts" / f"{source.name}-{source_key(source)}.json"


def _kept(source: Source, cache_dir: Path) -> dict[str, Any] | None:
    try:
        kept = json.loads(_verdict_path(source, cache_dir).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return kept if kept.keys() == {"about", "listing", "verdict"} else None


def _where(source: Source, sample: Sample, file: int = 0) -> str:
    """The path of one of a sample's files, relative to the root; its id where it has none."""
    if not sample.files:
        return sample.id
    return _relative(source, sample.files[min(file, len(sample.files) - 1)])


def _relative(source: Source, path: Path) -> str:
    if source.root is not None and path.is_relative_to(source.root):
        return path.relative_to(source.root).as_posix()
    return str(path)


def _by(shape: tuple[int, ...]) -> str:
    return " x ".join(str(length) for length in shape)
