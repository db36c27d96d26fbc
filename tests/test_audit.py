"""The audit finds what is planted, and what is really there."""

import functools
import re
import subprocess
import sys

import pytest

from seglab.audit import audit, ddof_tally, dice_of, report
from seglab.tables.pizza import PUBLISHED as TABLE_31
from seglab.tables.published import read
from tests.conftest import ROOT

COMPUTED = {(loss, str(i)): v for loss, row in TABLE_31.items() for i, v in enumerate(row, 1)}


def published():
    return read(ROOT / "results" / "published")


def findings(tables, computed=COMPUTED):
    return {(f.table, f.cell): f for check in audit(tables, computed) for f in check.findings}


@functools.cache
def untouched():
    return findings(published())


def planted(name, column, value, **where):
    """What is found once one cell is changed, and was not found before."""
    tables = published()
    rows = tables[name]
    chosen = rows.index[[all(r[k] == v for k, v in where.items()) for r in rows.to_dict("records")]]
    assert len(chosen) == 1, where
    rows.loc[chosen[0], column] = value
    before = untouched()
    return {key: f for key, f in findings(tables).items() if before.get(key) != f}


GRID = {"table": "4.4", "dataset": "cityscapes"}


def test_a_wrong_difference_is_found():
    found = planted("dist_thesis", "printed_delta", "(+0.0199)", **GRID, loss="iou", metric="biou")
    (finding,) = found.values()
    assert (finding.table, finding.cell) == ("4.4", "iou, cityscapes biou")
    assert (finding.printed, finding.recomputed) == ("(+0.0199)", "(+0.0198)")


def test_a_wrong_bold_mark_is_found():
    found = planted("dist_thesis", "printed_bold", "true", **GRID, loss="iou", metric="biou")
    (finding,) = found.values()
    assert (finding.printed, finding.recomputed) == ("iou and dist", "dist")


def test_a_missing_bold_mark_of_a_tie_is_found():
    where = {"table": "4.4", "dataset": "celebamask_hq", "loss": "iou", "metric": "dice"}
    (finding,) = planted("dist_thesis", "printed_bold", "false", **where).values()
    assert (finding.printed, finding.recomputed) == ("dice", "iou and dice")


def test_wrong_wins_are_found():
    where = {"loss": "ce", "dataset": "cityscapes", "metric": "biou"}
    (finding,) = planted("dist_thesis_wins", "wins", "2", **where).values()
    assert (finding.printed, finding.recomputed) == ("2", "1")
    where = {"loss": "dist", "dataset": "cityscapes", "metric": "biou"}
    (finding,) = planted("dist_thesis_wins", "printed_bold", "false", **where).values()
    assert (finding.table, finding.recomputed) == ("4.7", "dist")


def test_a_superiority_that_is_no_number_of_epochs_and_breaks_the_sum_is_found():
    where = {"table": "4.2", "loss": "combo", "metric": "superiority_biou"}
    found = planted("dist_thesis", "value", "2.3", **where)
    assert found["4.2", "combo, superiority_biou"].recomputed == "1.67"
    assert found["4.2", "sum of superiority_biou"].recomputed == "100.63"


def test_a_superiority_of_nothing_for_the_best_is_found():
    tables = published()
    rows = tables["dist_thesis"]
    is_share = (rows["table"] == "4.4") & (rows["metric"] == "superiority_biou")
    rows.loc[is_share & (rows["loss"] == "dist"), "value"] = "0"
    checks = {check.name: check for check in audit(tables, COMPUTED)}
    for words in ("has won an epoch", "alone and first"):
        (check,) = [check for name, check in checks.items() if words in name][-1:]
        assert ("4.4", "dist, superiority_biou") in {(f.table, f.cell) for f in check.findings}


def test_a_wrong_average_deviation_and_summary_are_found():
    where = {"table": "A.6", "stat": "avg", "metric": "biou"}
    found = planted("dist_thesis_crossval", "value", "0.7462", **where)
    assert found["A.6", "average, biou"].recomputed == "0.7461"
    assert found["4.11", "dist, avg biou"].recomputed == "0.7462"
    where = {"table": "A.6", "stat": "std", "metric": "biou"}
    found = planted("dist_thesis_crossval", "value", "0.0010", **where)  # ddof 0: 0.00105
    assert found["A.6", "standard deviation, biou"].recomputed == "0.00117"
    where = {"table": "4.11", "stat": "std", "metric": "iou", "loss": "dist"}
    assert ("4.11", "std iou") in planted("dist_thesis_crossval", "printed_bold", "false", **where)


def test_an_epoch_below_the_threshold_and_a_wrong_bold_epoch_are_found():
    where = {"table": "4.10", "encoder": "resnet34", "loss": "combo", "architecture": "unet"}
    found = planted("dist_thesis_convergence", "epochs", "50", **where)
    assert found["4.10", "unet resnet34 seed 42, combo"].recomputed == "-"
    where["loss"] = "dist"
    found = planted("dist_thesis_convergence", "epochs", "2", **where)
    assert found["4.10", "unet resnet34 seed 42"].recomputed == "dist"
    found = planted("dist_thesis_convergence", "epochs", "", **where)
    assert found["4.10", "unet resnet34 seed 42, dist"].recomputed == "an epoch"


def test_a_dice_that_no_mean_gives_is_found():
    where = {"table": "4.1", "dataset": "cityscapes", "loss": "combo", "metric": "dice"}
    found = planted("dist_thesis", "value", "0.7679", **where)  # 2 * 0.623 / 1.623 = 0.76771
    assert ("4.1", "combo, cityscapes, dice") in found
    found = planted("dist_thesis", "value", "0.6200", **where)  # below the IoU
    assert ("4.1", "combo, cityscapes, dice") in found
    where = {"table": "2", "loss": "lovasz", "metric": "dsc"}
    assert ("Bakos 2", "residual_attention_unet, lovasz, dice") in planted(
        "medical_thesis", "value", "0.8400", **where
    )


def test_a_copied_row_is_found():
    tables = published()
    rows = tables["dist_thesis"]
    of = {t: rows.index[(rows["table"] == t) & (rows["loss"] == "ce")] for t in ("4.5", "4.12")}
    rows.loc[of["4.12"], "value"] = rows.loc[of["4.5"], "value"].to_numpy()
    found = findings(tables)
    assert {("4.12", "ce, cityscapes"), ("4.12", "ce, celebamask_hq")} <= set(found)


def test_a_wrong_table_3_1_is_found():
    found = findings(published(), COMPUTED | {("dist", "2"): 0.2966})
    assert found["3.1", "dist, prediction 2"].recomputed == "0.297"
    where = {"loss": "dice", "prediction": "2"}
    found = planted(
        "dist_thesis_table31", "value", "0.122", **where
    )  # 1 - 2 * 0.786 / 1.786 = 0.1198
    assert found["3.1", "dice, prediction 2"].table == "3.1"


def test_wrong_claims_follow_the_numbers():
    where = {"table": "4.1", "dataset": "cityscapes", "loss": "iou", "metric": "biou"}
    found = planted("dist_thesis", "value", "0.5300", **where)
    assert found["Abstract", "lead in Table 4.1"].recomputed == "+0.0477"
    where = {"loss": "focal", "metric": "g_dsc"}
    assert ("Caliva 3", "g_dsc") in planted("distance_map_penalty", "mean", "97.00", **where)
    where = {"loss": "focal", "metric": "binary_accuracy"}
    assert ("Poster text", "best binary_accuracy") in planted(
        "cxr_poster", "value", "0.99", **where
    )
    where = {"table": "4", "loss": "boundary", "metric": "dsc"}
    assert ("Bakos 4", "boundary, dsc") in planted("medical_thesis", "value", "0.6000", **where)


def test_the_errors_that_are_really_there_are_found():
    found = untouched()
    # Table 4.6: Dice has 50 of superiority, IoU 36.67; Table 4.7 gives the win to IoU
    assert found["4.7", "iou, cityscapes superiority_biou"].recomputed == "0"
    assert found["4.7", "dice, cityscapes superiority_biou"].recomputed == "1"
    # (0.7076 + 0.7026 + 0.7031 + 0.7038 + 0.7032) / 5 = 0.70406
    assert found["A.4", "average, biou"].recomputed == "0.7041"
    assert dice_of(0.9724) < 0.9861 < 0.9929  # fold 5 of Table A.6
    assert ("A.6", "dist, fold 5, dice") in found
    assert sum("same masks" in f.why for f in found.values()) == 20
    claims = {key[0] for key in found}
    assert {"Abstract", "4.3.1", "4.3.2", "4.4.1", "Bakos 3", "Poster 2"} <= claims


def test_what_is_right_is_counted():
    checks = {check.name: check for check in audit(published(), COMPUTED)}
    (deltas,) = [c for name, c in checks.items() if "bracketed" in name]
    assert (deltas.held, deltas.findings) == (245, [])  # 7 tables x 7 columns x 5 losses
    (bold,) = [c for name, c in checks.items() if name.endswith("its column, ties included")]
    assert (bold.held, bold.findings) == (49, [])


def test_the_deviations_are_those_of_a_sample():
    assert ddof_tally(published()["dist_thesis_crossval"]) == (0, 18, 18)


def test_the_report_counts_and_lists_every_finding():
    tables = published()
    checks = audit(tables, COMPUTED)
    text = report(checks, tables["dist_thesis_crossval"])
    count = sum(len(check.findings) for check in checks)
    assert f"{sum(check.held for check in checks)} checks held, {count} did not" in text
    section = text.split("## Contradictions")[1].split("## Not")[0]
    assert len(re.findall(r"^\| (?!table|-)", section, re.MULTILINE)) == count


@pytest.mark.timeout(120)
def test_the_committed_report_is_a_fresh_one(tmp_path):
    output = tmp_path / "audit.md"
    command = [sys.executable, "scripts/audit.py", "--output", str(output)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    fresh = output.read_text(encoding="utf-8")
    assert done.stdout == fresh
    committed = ROOT / "results" / "tables" / "audit.md"
    assert committed.read_text(encoding="utf-8") == fresh
