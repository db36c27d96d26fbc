"""scripts/tables.py where something is damaged."""

import importlib.util
import sys

import pytest

from seglab import config
from tests.conftest import ROOT
from tests.tables.runs import make_run


@pytest.fixture
def tables(monkeypatch):
    """The command as a function of its arguments, without the losses of Table 3.1."""
    spec = importlib.util.spec_from_file_location("tables_script", ROOT / "scripts" / "tables.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    monkeypatch.setattr(script, "table31_losses", dict)

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["tables.py", *map(str, arguments)])
        return config.guarded(script.main, list(arguments))

    return run


def test_a_damaged_run_is_named_and_all_else_is_written(tables, tmp_path, capsys):
    for loss in ("ce", "dice", "dist", "iou"):
        make_run(tmp_path, loss=loss)
    assert tables("--results", tmp_path, "--figures", 0) == 0
    whole = (tmp_path / "tables" / "runs.csv").read_text().splitlines()
    ce, dice, dist, iou = sorted((tmp_path / "runs").iterdir())
    (ce / "record.json").write_text("{")
    (dice / "images.parquet").write_bytes(b"PAR1")
    (dist / "epochs.csv").write_text("epoch,split\n1,val\n")
    capsys.readouterr()
    assert tables("--results", tmp_path, "--figures", 0) == 1
    said = capsys.readouterr().err.splitlines()
    assert [line.split(":")[1].strip() for line in said[:3]] == [
        str(ce / "record.json"), str(dice / "images.parquet"), str(dist / "epochs.csv"),
    ]  # fmt: skip
    assert all(line.startswith("Warning: ") for line in said[:3])
    assert said[3].startswith("Error: 3 folder(s) in ")
    left = (tmp_path / "tables" / "runs.csv").read_text().splitlines()
    assert left == [line for line in whole if iou.name in line or line is whole[0]]
    assert "| 0.7500 " in (tmp_path / "tables" / "nuclei_4.1.md").read_text()
