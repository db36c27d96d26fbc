"""A judged grid as text of at most 100 columns, and as JSON."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from seglab.files import size_for_humans
from seglab.status import forecast as forecasts
from seglab.status.cells import Cell, Place
from seglab.status.forecast import Forecast
from seglab.status.standing import STATES, Standing

WIDTH = 100  # columns of a terminal
GAP = 2  # between two columns of a matrix
SHOWN = 20  # entries of a list
WORDS = {"missing": "-"}  # in the matrix; the other states are their own word
ORIGINS = {"own": "their epochs so far", "run": "finished runs", "probe": "probes"}
LISTED = ("running", "stopped", "failed", "stale", "damaged")


@dataclass(frozen=True)
class Block:
    """One matrix: cells that share data set, protocol and seed.

    Attributes:
        cells: (row, column) -> standing.
    """

    title: str
    cells: dict[tuple[str, str], Standing]


# ---------------------------------------------------------------- matrix


def blocks(standings: Iterable[Standing]) -> list[Block]:
    """The cells by protocol, rows model and encoder, columns loss.

    What has the same name and is not the same shows the keys that tell it apart.
    """
    standings = list(standings)
    protocols = told_apart([_protocol(s.cell) for s in standings])
    rows = told_apart([_network(s.cell) for s in standings])
    columns = told_apart([(s.cell.choices["loss"], s.cell.science["loss"]) for s in standings])
    grouped: dict[str, dict[tuple[str, str], Standing]] = defaultdict(dict)
    for standing, title, row, column in zip(standings, protocols, rows, columns, strict=True):
        grouped[title][row, column] = standing
    return [Block(title, cells) for title, cells in grouped.items()]


def _protocol(cell: Cell) -> tuple[str, dict[str, Any]]:
    shown = ("model", "encoder", "loss", "seed", "data")  # elsewhere
    rest = {key: value for key, value in cell.science.items() if key not in shown}
    return f"{cell.choices['dataset']}, seed {cell.seed}", rest


def _network(cell: Cell) -> tuple[str, dict[str, Any]]:
    parts = {section: cell.science[section] for section in ("model", "encoder")}
    return " ".join(cell.network), parts


def told_apart(named: list[tuple[str, dict[str, Any]]]) -> list[str]:
    """A label for each (name, section): the name, and the keys in which its namesakes differ."""
    flat = [(name, _flat(section)) for name, section in named]
    values: dict[tuple[str, str], set[str]] = defaultdict(set)
    for name, keys in flat:
        for key, value in keys.items():
            values[name, key].add(value)
    return [
        " ".join([name, *(f"{k}={v}" for k, v in keys.items() if len(values[name, k]) > 1)])
        for name, keys in flat
    ]


def _flat(section: dict[str, Any], prefix: str = "") -> dict[str, str]:
    found: dict[str, str] = {}
    for key, value in section.items():
        if isinstance(value, dict):
            found |= _flat(value, f"{prefix}{key}.")
        else:
            found[prefix + key] = str(value)
    return found


def matrix(block: Block) -> list[str]:
    """The lines of one block; columns that find no room go on below."""
    rows = list(dict.fromkeys(row for row, _ in block.cells))
    columns = list(dict.fromkeys(column for _, column in block.cells))
    first = max(map(len, rows))
    words = {place: WORDS.get(s.state, s.state) for place, s in block.cells.items()}
    lines = [block.title]
    for part in _parts(columns, WIDTH - first):
        lines.append(" " * first + "".join(" " * GAP + c.rjust(_width(c)) for c in part))
        for row in rows:
            cells = ((c, words.get((row, c), "")) for c in part)
            lines.append(
                row.ljust(first) + "".join(" " * GAP + word.rjust(_width(c)) for c, word in cells)
            )
    return [line.rstrip() for line in lines]


def _width(column: str) -> int:
    return max(len(column), *map(len, STATES))


def _parts(columns: list[str], room: int) -> list[list[str]]:
    parts: list[list[str]] = [[]]
    used = 0
    for column in columns:
        width = GAP + _width(column)
        if parts[-1] and used + width > room:
            parts.append([])
            used = 0
        parts[-1].append(column)
        used += width
    return parts


# ---------------------------------------------------------------- lists


def names(standings: list[Standing]) -> dict[str, str]:
    """Cell.key -> 'unet resnet34 dist, nuclei, seed 42'."""
    return {
        s.cell.key: f"{row} {column}, {block.title}"
        for block in blocks(standings)
        for (row, column), s in block.cells.items()
    }


def detail(standing: Standing) -> str:
    """What is to be said of a cell besides its state."""
    at = f"epoch {standing.epoch} of {standing.cell.epochs}"
    left = "" if standing.seconds_left is None else f", {duration(standing.seconds_left)} left"
    match standing.state:
        case "running":
            return standing.why or at + left
        case "stopped" | "failed":
            return f"{at}{left}: {standing.why or 'no reason was recorded'}"
        case _:
            return standing.why


def lists(standings: list[Standing], damaged: dict[Path, str]) -> list[str]:
    """Every state that has something to say, one line a cell; then the folders nobody can read."""
    name = names(standings)
    lines = []
    for state in LISTED:
        those = [s for s in standings if s.state == state]
        lines += _listed(state, [f"{name[s.cell.key]}: {detail(s)}" for s in those])
    known = {standing.folder for standing in standings}
    others = [why for folder, why in damaged.items() if folder not in known]
    return lines + _listed("damaged folders", others)


def _listed(what: str, entries: list[str]) -> list[str]:
    if not entries:
        return []
    more = [f"  and {len(entries) - SHOWN} more"] if len(entries) > SHOWN else []
    return ["", f"{what}:", *(f"  {entry}" for entry in entries[:SHOWN]), *more]


def totals(standings: list[Standing]) -> dict[str, int]:
    """State -> cells, of the states that occur."""
    counts = {state: sum(s.state == state for s in standings) for state in STATES}
    return {state: count for state, count in counts.items() if count}


def total_line(standings: list[Standing]) -> str:
    """'36 cells: 30 done, 6 missing'."""
    counts = ", ".join(f"{count} {state}" for state, count in totals(standings).items())
    return f"{_cells(len(standings))}: {counts}"


def _cells(number: int) -> str:
    return f"{number} cell{'s' * (number != 1)}"


def legend(standings: list[Standing]) -> list[str]:
    """What the words of the matrix mean, of those that occur."""
    return [f"  {WORDS.get(state, state):<8} {STATES[state]}" for state in totals(standings)]


def duration(seconds: float) -> str:
    """'2 h 05 min', '3 min', '12 s'."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


# ---------------------------------------------------------------- forecast


def forecast_lines(standings: list[Standing], found: Forecast, place: Place) -> list[str]:
    """Hours, memory, and what will not fit."""
    total = size_for_humans(place.memory_bytes)
    lines = ["", f"Forecast for this device ({place.name}, {total}):"]
    if sum(found.by_origin.values()):
        by = ", ".join(f"{n} by {ORIGINS[origin]}" for origin, n in found.by_origin.items())
        lines.append(f"  time left: {duration(found.device_seconds)} of one device ({by})")
    if found.unknown:
        lines.append(
            f"  time unknown: {_cells(len(found.unknown))}, of whose network no run has finished "
            "here. --probe measures a few steps."
        )
    lines += _memory_lines(standings, found, place)
    if found.too_large:
        name = names(standings)
        lines += _listed("will not fit", [name[cell.key] for cell in found.too_large])
        lines.append(
            "  Take a smaller trainer.batch_size or dataset.size (both change the numbers), or "
            "share the batch out: trainer=ddp trainer.devices=N."
        )
    if not any(standing.state != "done" for standing in standings):
        lines[1:] = ["Nothing is left to do."]
    return lines


def _memory_lines(standings: list[Standing], found: Forecast, place: Place) -> list[str]:
    lines = [
        f"    {network}: {size_for_humans(peak)} ({peak / place.memory_bytes:.0%})"
        for network, peak in _peaks(standings, found).items()
        if peak is not None
    ]
    return ["  peak memory:", *lines] if lines else []


def _peaks(standings: list[Standing], found: Forecast) -> dict[str, int | None]:
    """'unet resnet34, nuclei' -> its largest known peak, bytes."""
    cells = [standing.cell for standing in standings]
    labels = told_apart(
        [
            (f"{' '.join(c.network)}, {c.choices['dataset']}", forecasts.network_parts(c))
            for c in cells
        ]
    )
    pairs = zip(labels, cells, strict=True)
    return {label: found.memory.get(forecasts.network_key(cell)) for label, cell in pairs}


# ---------------------------------------------------------------- JSON


def as_json(standings: list[Standing], damaged: dict[Path, str]) -> dict[str, Any]:
    """The same, for a program."""
    return {
        "cells": [
            {
                "block": block.title,
                "row": row,
                "column": column,
                "choices": s.cell.choices,
                "encoder": s.cell.encoder,
                "seed": s.cell.seed,
                "overrides": list(s.cell.overrides),
                "state": s.state,
                "why": s.why,
                "epoch": s.epoch,
                "epochs": s.cell.epochs,
                "seconds_left": s.seconds_left,
                "folder": str(s.folder) if s.folder else None,
            }
            for block in blocks(standings)
            for (row, column), s in block.cells.items()
        ],
        "totals": totals(standings),
        "damaged": {str(folder): why for folder, why in damaged.items()},
    }


def forecast_json(standings: list[Standing], found: Forecast, place: Place) -> dict[str, Any]:
    """The forecast, for a program."""
    return {
        "device": {"kind": place.kind, "name": place.name, "memory_bytes": place.memory_bytes},
        "device_seconds": found.device_seconds,
        "by_origin": found.by_origin,
        "unknown": [list(cell.overrides) for cell in found.unknown],
        "peak_memory_bytes": _peaks(standings, found),
        "will_not_fit": [list(cell.overrides) for cell in found.too_large],
    }
