"""The imports flow one way: config -> data -> model -> loss -> engine -> record -> tables."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import ROOT

PACKAGE = ROOT / "seglab"

# room -> the modules of ours that it may import, besides itself
MAY_IMPORT = {
    "errors": set(),
    "allocator": set(),
    "ops": set(),
    "files": {"errors"},
    "scores": {"errors"},
    "kernels": {"ops"},
    "distance": {"ops", "kernels"},
    "losses": {"ops", "distance", "kernels", "errors"},
    "metrics": {"ops", "distance", "scores", "errors"},
    "models": {"errors", "files", "ops"},
    "data": {"errors", "files", "ops"},
    "config": {"errors", "launchers"},
    "launchers": {"errors", "record"},
    "engine": {"ops", "errors"},
    "checkpoint": {"errors", "files"},
    "record": {"errors", "files"},
    "tracking": {"config"},
    "figures": {"errors", "files"},
    "store": {"errors", "record"},
    "tables": {"errors", "scores", "stats", "store"},
    "ledger": {"checkpoint", "engine", "record", "scores", "tracking"},
    "stats": {"errors", "scores"},
    "cd_diagram": set(),
    "charts": {"errors", "files", "scores", "store", "tables"},
    "audit": {"errors", "files", "scores", "tables"},
    "status": {"config", "data", "errors", "experiment", "files", "record"},
    "conformance": {"ops"},
    "postprocess": {"errors"},
    "console": set(),
    "feed": {"config", "console", "data", "engine", "errors", "record"},
    "inference": {"errors"},
    "samples": {"data", "figures", "metrics", "ops"},
    "reload": {"checkpoint", "config", "errors", "inference", "ops"},
}  # experiment puts everything together, and may import everything
NO_TORCH = {"errors", "files", "scores", "config", "record", "store", "tables", "figures", "stats",
            "report", "tracking", "audit", "cd_diagram", "charts"}  # fmt: skip
NO_TORCH_IN_DATA_BUT = {"module.py"}


def rooms() -> Iterator[tuple[str, Path]]:
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).parts
        yield parts[0].removesuffix(".py"), path


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """(line, dotted name) of everything that a file imports, `from seglab import x` as seglab.x."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            if node.module == "seglab":
                yield from ((node.lineno, f"seglab.{alias.name}") for alias in node.names)
            else:
                yield node.lineno, node.module


def trespasses(room: str, path: Path) -> Iterator[str]:
    for line, name in imports(path):
        parts = name.split(".")
        if parts[0] == "seglab" and len(parts) > 1 and room in MAY_IMPORT:
            target = parts[1]
            if target != room and target not in MAY_IMPORT[room] | {"__version__"}:
                yield f"{path.relative_to(ROOT)}:{line}: {room} may not import {name}"
        torchless = room in NO_TORCH or (room == "data" and path.name not in NO_TORCH_IN_DATA_BUT)
        if torchless and parts[0] in ("torch", "lightning", "torchvision"):
            yield f"{path.relative_to(ROOT)}:{line}: {room} may not import {parts[0]}"


@pytest.mark.parametrize(("room", "path"), list(rooms()), ids=lambda value: str(value)[-40:])
def test_a_room_imports_only_what_it_may(room, path):
    assert not list(trespasses(room, path))


def test_every_room_has_a_rule():
    free = {"__init__", "experiment"}
    assert {room for room, _ in rooms()} - free <= set(MAY_IMPORT)


def test_a_trespass_is_named_with_file_and_line(tmp_path, monkeypatch):
    monkeypatch.setattr("tests.test_walls.ROOT", tmp_path)
    bad = tmp_path / "engine.py"
    bad.write_text("import math\nfrom seglab.losses import dist\n")
    (message,) = trespasses("engine", bad)
    assert message == "engine.py:2: engine may not import seglab.losses"


def test_the_reading_side_runs_without_torch():
    import subprocess
    import sys

    code = "import sys, seglab.store, seglab.scores, seglab.tables.runs, seglab.figures;"
    code += "sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
