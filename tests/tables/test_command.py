"""scripts/tables.py where something is damaged, or left of another command."""

import importlib.util
import json
import subprocess
import sys

import pandas as pd
import pytest

from seglab import config
from tests.conftest import ROOT
from tests.tables.runs import make_run


@pytest.fixture
def script():
    """scripts/tables.py as a module."""
    spec = importlib.util.spec_from_file_location("tables_script", ROOT / "scripts" / "tables.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    return script


@pytest.fixture
def tables(script, monkeypatch):
    """The command as a function of its arguments, without the losses of Table 3.1."""
    monkeypatch.setattr(script, "table31_losses", dict)

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["tables.py", *map(str, arguments)])
        return config.guarded(script.main, list(arguments))

    return run


@pytest.fixture
def brief(tables, script, monkeypatch):
    """The command without the tables of the sources and the rankings."""
    monkeypatch.setattr(script, "every_sheet", lambda *_: [])
    monkeypatch.setattr(script, "write_rankings", lambda *_: None)
    return tables


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


def test_a_run_that_cannot_be_drawn_is_named_and_the_others_are_drawn(brief, tmp_path, capsys):
    for loss in ("ce", "dice", "dist"):
        make_run(tmp_path, loss=loss)
        make_run(tmp_path, loss=loss, seed=7)
    for folder in (tmp_path / "runs").glob("*-s42-*"):
        if "-dist-" not in folder.name:
            record = json.loads((folder / "record.json").read_text())
            record["seconds"] = {**record["seconds"], "fit": "junk"}
            (folder / "record.json").write_text(json.dumps(record))
    (dist,) = (tmp_path / "runs").glob("*-dist-s7-*")
    epochs = pd.read_csv(dist / "epochs.csv")
    epochs.loc[0, "seconds"] = float("inf")
    epochs.to_csv(dist / "epochs.csv", index=False)
    assert brief("--results", tmp_path) == 1
    out, err = capsys.readouterr()
    lines = err.splitlines()
    for line, name in zip(lines, ("-dist-s7-", "-ce-s42-", "-dice-s42-"), strict=False):
        assert line.startswith("Warning: ")
        assert name in line
        assert "has lost seconds" in line
    assert lines[3].startswith("Error: 3 folder(s) in ")
    assert "cannot be drawn and are in no figure" in lines[3]
    assert "1 of 2 groups of runs drawn" in out
    drawn = {path.name.split("-")[3] for path in (tmp_path / "tables" / "figures").iterdir()}
    assert drawn == {"s7"}
    assert len((tmp_path / "tables" / "runs.csv").read_text().splitlines()) == 1 + 6 * 4


def test_a_ratio_that_no_run_has_is_refused_before_anything_is_written(tables, tmp_path, capsys):
    make_run(tmp_path)
    assert tables("--results", tmp_path, "--boundary-ratio", 0.01) == 1
    said = capsys.readouterr().err
    assert said.startswith("Error: --boundary-ratio 0.01: no run has counts for it. ")
    assert "0.005, 0.02" in said
    assert not (tmp_path / "tables").exists()


def test_a_run_without_the_ratio_is_left_out_by_name_and_is_not_damaged(brief, tmp_path, capsys):
    make_run(tmp_path, loss="ce")
    make_run(tmp_path, loss="dist")
    (dist,) = (tmp_path / "runs").glob("*-dist-*")
    text = (dist / "record.json").read_text()
    (dist / "record.json").write_text(text.replace("[0.02, 0.005]", "[0.02]"))
    assert brief("--results", tmp_path, "--boundary-ratio", 0.005, "--figures", 0) == 0
    out, err = capsys.readouterr()
    assert f"1 runs have no counts for boundary ratio 0.005 and are left out: {dist.name}" in out
    assert err == ""
    assert dist.name not in (tmp_path / "tables" / "runs.csv").read_text()


def test_what_an_earlier_command_left_is_named_and_kept(brief, tmp_path, capsys):
    output = tmp_path / "tables"
    for loss in ("ce", "dist"):
        make_run(tmp_path, loss=loss)
    (output / "figures").mkdir(parents=True)
    names = ("audit.md", "README.md", "committed.md", "figures/old.svg", "nuclei_4.1.md")
    for name in names:
        (output / name).write_text("old")
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    subprocess.run(["git", "-C", str(output), "add", "committed.md"], check=True)
    for _ in range(2):  # what this command wrote before it writes again
        assert brief("--results", tmp_path, "--figures", 1) == 0
        said = [line for line in capsys.readouterr().out.splitlines() if "earlier command" in line]
        assert said == [
            f"2 files in {output} are of an earlier command: figures/old.svg, nuclei_4.1.md; "
            "delete them to be rid of them"
        ]
    assert all((output / name).read_text() == "old" for name in names)
    assert brief("--results", tmp_path, "--figures", 0) == 0
    assert "8 files in " in capsys.readouterr().out  # the six figures, too
