"""What scripts/bench.py shows and keeps: the table, <machine>.json and README.md."""

import contextlib
import importlib.metadata
import json
import os
import platform
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

from seglab import files, record

SCHEMA = 1
PEERS = ("medpy", "monai")  # besides the packages that every run records
HEAD = """\
# Measured

Made by `make bench` from the .json files beside it; do not edit. One part for each machine.

A row is one thing done by seglab and by the named other, in turns within one process and on the
same inputs: the median over the rounds, and in brackets the fastest. *Ratio* is our time divided
by theirs, *as fast* its inverse; *x floor* is our time divided by that of the least that any such
code must do. *Units* are the peak memory of one call beyond its inputs, ours and theirs, divided
by the size of the logits; *memory* is the ratio of both peaks. Read ratios, not milliseconds.
"""
COLUMNS = (
    "what", "ours, ms", "compared with", "theirs, ms", "ratio", "as fast", "x floor", "units",
    "memory", "target",
)  # fmt: skip


# ---------------------------------------------------------------- what it was measured on


def machine(device: str, threads: int) -> dict[str, Any]:
    """The processor that the numbers are of; `slug` names the files."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    name = torch.cuda.get_device_name() if device == "cuda" else _cpu_name()
    slug = re.sub(r"[^a-z0-9]+", "-", f"{name} {cores} cores".lower()).strip("-")
    return {
        "slug": slug if threads == 1 else f"{slug}-{threads}-threads",
        "name": name,
        "device": device,
        "cores": cores,
        "threads": threads,
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
    }


def _cpu_name() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def provenance() -> dict[str, Any]:
    """When, by which code and with which libraries."""
    known = record.provenance()
    versions = known["versions"]
    for package in PEERS:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[package] = importlib.metadata.version(package)
    return {
        "date": record.now(),
        "commit": known["commit"],
        "uncommitted_change": bool(known["diff"]),
        "code": known["code"],
        "versions": versions,
        "load": round(os.getloadavg()[0], 2),
    }


# ---------------------------------------------------------------- table


def cells(row: dict[str, Any]) -> list[str]:
    """One row of the table, a string for each of COLUMNS."""
    ours, peer = row["ours"], row["peer"]
    item = f" per {row['item']}" if row["item"] else ""
    return [
        row["what"] + item,
        _time(ours),
        peer["name"],
        _time(peer),
        _number(row["time_ratio"]),
        _number(row["speed_ratio"]),
        _number(row["floor_ratio"]),
        " / ".join(_number(side["peak_units"]) for side in (ours, peer) if "peak_units" in side),
        _number(row["memory_ratio"]),
        "; ".join(_verdict(target) for target in row["targets"]),
    ]


def _time(side: dict[str, Any]) -> str:
    if "not_measured" in side:
        return f"not measured ({side['not_measured']})"
    return f"{_number(side['median_ms'])} ({_number(side['min_ms'])})"


def _verdict(target: dict[str, Any]) -> str:
    if target["met"] is None:
        return f"{target['text']}: not measured"
    word = "met" if target["met"] else "MISSED"
    return f"{target['text']}: {word} ({_number(target['value'])})"


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def as_text(rows: list[dict[str, Any]]) -> str:
    """Aligned columns for a terminal; columns that no row uses are left out."""
    table = [list(COLUMNS), *(cells(row) for row in rows)]
    used = [i for i in range(len(COLUMNS)) if any(row[i] for row in table[1:])]
    widths = {i: max(len(row[i]) for row in table) for i in used}
    lines = ["  ".join(row[i].ljust(widths[i]) for i in used).rstrip() for row in table]
    return "\n".join([lines[0], "  ".join("-" * widths[i] for i in used), *lines[1:]])


def as_markdown(rows: list[dict[str, Any]]) -> str:
    """The same as a Markdown table."""
    table = [cells(row) for row in rows]
    used = [i for i in range(len(COLUMNS)) if any(row[i] for row in table)]
    head = [COLUMNS[i] for i in used]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    lines += ["| " + " | ".join(row[i] for i in used) + " |" for row in table]
    return "\n".join(lines)


def tally(sections: Iterable[dict[str, Any]]) -> str:
    """How many targets are met; each missed one with its value; what was not measured."""
    rows = [row for section in sections for row in section["rows"]]
    targets = [(row, target) for row in rows for target in row["targets"]]
    met = sum(target["met"] is True for _, target in targets)
    lines = [f"{met} of {len(targets)} targets met."]
    lines += [
        f"Missed: {row['section']}, {row['what']}, compared with {row['peer']['name']}: "
        f"{target['text']}, reached {_number(target['value'])}."
        for row, target in targets
        if target["met"] is False
    ]
    sides = [side for row in rows for side in (row["ours"], row["peer"])]
    absent = {f"{s['name']} ({s['not_measured']})": None for s in sides if "not_measured" in s}
    if absent:
        lines.append(f"Not measured: {', '.join(absent)}.")
    return "\n".join(lines)


def grid_words(grid: dict[str, Any]) -> str:
    """The hours of the thesis's grid."""
    word = "met" if grid["met"] else "MISSED"
    return (
        f"The thesis's whole grid, {grid['runs']} runs on both data sets, would take "
        f"{grid['hours']:.1f} hours (goal {grid['goal_hours']:g}: {word})."
    )


# ---------------------------------------------------------------- files


def keep(folder: Path, where: dict[str, Any], sections: dict[str, dict[str, Any]]) -> Path:
    """Writes <machine>.json: the sections just measured, and older ones that were not.

    A section measured with --quick does not replace one that was measured in full.
    """
    path = folder / f"{where['slug']}.json"
    older = json.loads(path.read_text(encoding="utf-8"))["sections"] if path.exists() else {}
    kept = {
        name: section
        for name, section in sections.items()
        if not (section["scale"] == "quick" and older.get(name, section)["scale"] == "full")
    }
    for name in sections.keys() - kept.keys():
        print(f"{path.name} keeps its section {name}, which was measured in full.")
    files.write_json(path, {"schema": SCHEMA, "machine": where, "sections": older | kept})
    return path


def write_readme(folder: Path, order: Iterable[str]) -> Path:
    """README.md from every .json file of the folder."""
    parts = [HEAD]
    for path in sorted(folder.glob("*.json")):
        content = json.loads(path.read_text(encoding="utf-8"))
        parts.append(_part(content, list(order)))
    files.write_text(folder / "README.md", "\n".join(parts))
    return folder / "README.md"


def _part(content: dict[str, Any], order: list[str]) -> str:
    where, sections = content["machine"], content["sections"]
    threads = "1 thread" if where["threads"] == 1 else f"{where['threads']} threads"
    lines = [f"## {where['name']}, {where['cores']} cores, {threads}", ""]
    lines += [f"- {line}" for line in tally(sections.values()).splitlines()]
    for name in [name for name in order if name in sections]:
        section = sections[name]
        versions = section["versions"]
        lines += ["", f"### {name}", ""]
        if section["rows"]:
            lines += [as_markdown(section["rows"]), ""]
        lines += section["notes"]
        if section.get("grid"):
            lines.append(grid_words(section["grid"]))
        if section["failed"]:
            lines.append(f"Failed: {section['failed']}")
        lines.append(
            f"{section['date'][:10]}, {section['rounds']} rounds"
            + ("" if section["scale"] == "full" else f" (--{section['scale']})")
            + f", torch {versions['torch']}, load {section['load']:g} before it began."
        )
    return "\n".join(lines) + "\n"
