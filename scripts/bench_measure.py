"""How scripts/bench.py measures: interleaved rounds, and peak memory in a fresh process."""

import gc
import json
import math
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

HERE = Path(__file__).resolve().parent
SAMPLE_SECONDS = 0.01  # what is quicker than this is called several times for one sample

# What glibc reads at the start of a process. By default every large tensor is asked of the kernel
# anew, and page faults take most of the time of an elementwise operation.
KEEPS_MEMORY = {
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": "100000000000",
    "MALLOC_TOP_PAD_": "268435456",
}
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
RETURNS_MEMORY = {"MALLOC_MMAP_THRESHOLD_": "65536"}  # resident memory is then what is in use


@dataclass(frozen=True)
class Missing:
    """A contender that cannot be measured here, and why."""

    reason: str


@dataclass(frozen=True)
class Known:
    """A contender whose time is arithmetic, such as bytes over bandwidth, or measured elsewhere.

    So may its peak be, of a whole process.
    """

    seconds: tuple[float, ...]
    process_bytes: int | None = None


Contender = Callable[[], Any] | Missing | Known


@dataclass(frozen=True)
class Target:
    """What a row is to reach.

    measure:  time        ours / peer, at most        speed        peer / ours, at least
              ms          ours in ms, at most         units        ours in units, at most
              memory      ours / peer, at most        difference   of the results, at most
              gib         peak of our process in GiB, at most
    """

    measure: str
    limit: float

    @property
    def text(self) -> str:
        """For the table."""
        limit = f"{self.limit:g}"
        return {
            "time": f"<= {limit} x the time",
            "speed": f">= {limit} x as fast",
            "ms": f"<= {limit} ms",
            "units": f"<= {limit} units",
            "memory": f"<= {limit} x the memory",
            "difference": f"difference <= {limit}",
            "gib": f"<= {limit} GiB",
        }[self.measure]

    def judge(self, row: dict[str, Any]) -> dict[str, Any]:
        """The target with the row's value, and whether that meets it; None where unknown."""
        value = row[{"time": "time_ratio", "speed": "speed_ratio", "memory": "memory_ratio"}.get(
            self.measure, self.measure
        )]  # fmt: skip
        met = None
        if value is not None:
            met = value >= self.limit if self.measure == "speed" else value <= self.limit
        return {"text": self.text, "value": value, "met": met}


@dataclass(frozen=True)
class Line:
    """A row of the table: one contender of ours against one other.

    Args:
        difference: between the two results; computed once, before anything is timed.
    """

    what: str
    ours: str
    peer: str
    targets: tuple[Target, ...] = ()
    difference: Callable[[], float] | None = None


@dataclass
class Group:
    """What is measured together, in turns.

    Args:
        contenders: name -> what is called.
        floor: the contender that nothing can be faster than.
        items: a call handles so many; times are for one.
        item: its name, such as "image"; "" where a call is one thing.
        unit_bytes: size of the logits where peak memory is measured, else None.
        whole_memory: the peak counts what was there before the call too (a GPU alone).
        judged: whether the sizes are those that the targets speak of.
        forget: drops what a call leaves behind, such as a gradient, before memory is counted.
        holds: kept as long as the group, such as a temporary folder.
    """

    contenders: dict[str, Contender]
    lines: list[Line]
    floor: str | None = None
    items: int = 1
    item: str = ""
    unit_bytes: int | None = None
    whole_memory: bool = False
    judged: bool = True
    notes: list[str] = field(default_factory=list)
    forget: Callable[[], None] | None = None
    holds: object = None


# ---------------------------------------------------------------- time


def timed(
    contenders: dict[str, Contender], rounds: int, device: str
) -> dict[str, tuple[float, ...]]:
    """name -> seconds of one call in each round; the contenders take turns within a round."""
    once = _once_on_cuda if device == "cuda" else _once
    calls = {name: call for name, call in contenders.items() if callable(call)}
    samples: dict[str, list[float]] = {name: [] for name in calls}
    number = {}
    gc.collect()
    gc.freeze()  # the collections between the samples look at what is new alone
    try:
        for name, call in calls.items():
            first = once(call, 1)  # imports, pages and caches
            spent = first if first > 10 * SAMPLE_SECONDS else once(call, 1)
            number[name] = max(1, math.ceil(SAMPLE_SECONDS / max(spent, 1e-7)))
        for _ in range(rounds):
            for name, call in calls.items():
                samples[name].append(once(call, number[name]))
    finally:
        gc.unfreeze()
    known = {name: c.seconds for name, c in contenders.items() if isinstance(c, Known)}
    return {**{name: tuple(values) for name, values in samples.items()}, **known}


def _once(call: Callable[[], Any], number: int) -> float:
    gc.collect()
    gc.disable()
    try:
        start = time.perf_counter()
        for _ in range(number):
            call()
        return (time.perf_counter() - start) / number
    finally:
        gc.enable()


def _once_on_cuda(call: Callable[[], Any], number: int) -> float:
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize()
    start.record()
    for _ in range(number):
        call()
    end.record()
    torch.cuda.synchronize()
    return start.elapsed_time(end) / 1000 / number


def copy_bandwidth(device: str) -> float:
    """Bytes per second that a large copy reads and writes."""
    source = torch.empty(1 << 28, dtype=torch.float32, device=device)
    target = torch.empty_like(source)
    (samples,) = timed({"copy": lambda: target.copy_(source)}, 7, device).values()
    return 2 * source.nbytes / min(samples)


# ---------------------------------------------------------------- memory


def peak_bytes(
    group: Group, section: str, index: int, scale: str, device: str, threads: int
) -> dict[str, int]:
    """contender -> peak extra bytes of one call; {} where the group has no unit.

    On a GPU as its allocator counts, here; on a CPU as the growth of resident memory, in a fresh
    process with one child for each contender, because a warm process hides what it reuses.
    """
    if group.unit_bytes is None and not group.whole_memory:
        return {}
    if device == "cuda":
        return {n: _peak_on_cuda(c, group) for n, c in group.contenders.items() if callable(c)}
    environment = {k: v for k, v in os.environ.items() if k not in KEEPS_MEMORY}
    command = [sys.executable, str(HERE / "bench_sections.py"), section, str(index), scale]
    done = subprocess.run(
        [*command, str(threads)],
        env=environment | RETURNS_MEMORY,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return json.loads(done.stdout.splitlines()[-1])


def _peak_on_cuda(call: Callable[[], Any], group: Group) -> int:
    call()
    if group.forget is not None:
        group.forget()
    torch.cuda.synchronize()
    gc.collect()
    torch.cuda.reset_peak_memory_stats()
    before = 0 if group.whole_memory else torch.cuda.memory_allocated()
    call()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() - before


def peaks_in_children(
    tiny: Callable[[], Group], full: Callable[[], Group], names: Sequence[str]
) -> dict[str, int]:
    """contender -> growth of resident memory over one call, each in a forked child.

    The child first calls the contender of the `tiny` group, so that code and libraries are in
    memory; what the inputs took is there before the count begins.
    """
    found = {}
    for name in names:
        read_end, write_end = os.pipe()
        child = os.fork()
        if child == 0:
            code = 1
            try:
                for make in (tiny, full):
                    call = make().contenders[name]
                    growth = _growth(call)
                os.write(write_end, str(growth).encode())
                code = 0
            finally:
                os._exit(code)
        os.close(write_end)
        with os.fdopen(read_end) as pipe:
            answer = pipe.read()
        os.waitpid(child, 0)
        if answer:
            found[name] = int(answer)
    return found


def _growth(call: Any) -> int:
    """Bytes by which resident memory grew at its highest during a call."""
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")  # forgets the highest so far
    before = _status_bytes("VmRSS")
    call()
    return max(0, _status_bytes("VmHWM") - before)


def _status_bytes(key: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{key}:"):
            return 1024 * int(line.split()[1])
    raise RuntimeError(f"/proc/self/status has no {key}")


# ---------------------------------------------------------------- rows


def rows_of(
    group: Group,
    seconds: dict[str, tuple[float, ...]],
    peaks: dict[str, int],
    section: str,
) -> list[dict[str, Any]]:
    """The group's lines with numbers, as JSON."""
    return [_row(group, line, seconds, peaks, section) for line in group.lines]


def _row(
    group: Group,
    line: Line,
    seconds: dict[str, tuple[float, ...]],
    peaks: dict[str, int],
    section: str,
) -> dict[str, Any]:
    ours, peer = (_side(group, name, seconds, peaks) for name in (line.ours, line.peer))
    floor = None if group.floor is None else _side(group, group.floor, seconds, {})
    measured = "not_measured" not in peer and "not_measured" not in ours
    row: dict[str, Any] = {
        "section": section,
        "what": line.what,
        "item": group.item,
        "ours": ours,
        "peer": peer,
        "floor": floor,
        "time_ratio": _ratio(ours, peer, "median_ms"),
        "speed_ratio": _ratio(peer, ours, "median_ms"),
        "memory_ratio": _ratio(ours, peer, "peak_bytes"),
        "floor_ratio": None if floor is None else _ratio(ours, floor, "median_ms"),
        "ms": ours.get("median_ms"),
        "units": ours.get("peak_units"),
        "gib": ours.get("process_gib"),
        "difference": line.difference() if line.difference and measured else None,
    }
    judged = [target for target in line.targets if group.judged]
    if peaks and line.ours not in peaks:  # --quick looks at the memory of a few alone
        judged = [target for target in judged if target.measure not in ("units", "memory")]
    row["targets"] = [target.judge(row) for target in judged]
    return row


def _side(
    group: Group, name: str, seconds: dict[str, tuple[float, ...]], peaks: dict[str, int]
) -> dict[str, Any]:
    side: dict[str, Any] = {"name": name}
    contender = group.contenders[name]
    if isinstance(contender, Missing):
        return side | {"not_measured": contender.reason}
    per_item = [1000 * s / group.items for s in seconds[name]]
    side |= {"median_ms": statistics.median(per_item), "min_ms": min(per_item)}
    if isinstance(contender, Known) and contender.process_bytes is not None:
        side["process_gib"] = contender.process_bytes / 2**30
    if name in peaks:
        side["peak_bytes"] = peaks[name]
        if group.unit_bytes:
            side["peak_units"] = peaks[name] / group.unit_bytes
    return side


def _ratio(a: dict[str, Any], b: dict[str, Any], key: str) -> float | None:
    return a[key] / b[key] if a.get(key) is not None and b.get(key) else None
