"""Without a run of one's own, every published table is its CSV file, digit by digit."""

import re
import shutil

import pytest

from seglab.errors import DataError
from seglab.tables import render
from seglab.tables.bakos import ROWS as BAKOS_ROWS
from seglab.tables.caliva import LOSSES as CALIVA
from seglab.tables.every import every_sheet
from seglab.tables.layout import Shown
from seglab.tables.measured import Convention, Measured
from seglab.tables.poster import LOSSES as POSTER
from seglab.tables.published import LOSSES, read
from tests.conftest import ROOT

PUBLISHED = read(ROOT / "results" / "published")
NOTHING = Measured([], Convention("dataset", 0.02, "best"))
SHEETS = {sheet.name: sheet for sheet in every_sheet(PUBLISHED, NOTHING, {}, None)}
NETWORKS = {
    ("unet", "resnet34"): "U-Net & ResNet-34",
    ("unet", "resnet50"): "U-Net & ResNet-50",
    ("unet", "mobilenet_v2"): "U-Net & MobileNetV2",
    ("deeplabv3plus", "resnet34"): "DeepLabv3+ & ResNet-34",
    ("deeplabv3plus", "resnet50"): "DeepLabv3+ & ResNet-50",
    ("deeplabv3plus", "mobilenet_v2"): "DeepLabv3+ & MobileNetV2",
}
FOLD = {"avg": "Average", "std": "Standard Deviation"}


def drawn(name):
    """(row label, place of the column) -> text, of the published form in the Markdown file."""
    body = render.markdown(SHEETS[name]).split("## Measured")[0]
    lines = [line for line in body.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def cell(name, label, column, below=0):
    """`column` counts from 0 behind the label; `below` rows under the one with that label."""
    rows = drawn(name)
    (at,) = [i for i, row in enumerate(rows) if row[0] == label]
    return rows[at + below][1 + column]


def dressed(value, bold, delta=""):
    text = f"**{value}**" if bold == "true" else value
    return f"{text} <sub>{delta}</sub>" if delta else text


def test_every_table_of_the_list_is_there():
    expected = {"3.1", *(f"4.{i}" for i in (1, 2, 3, 4, 5, 6, 7, 9, 10, 11, 12))}
    expected |= {f"A.{i}" for i in range(1, 7)} | {f"medical_{i}" for i in range(1, 5)}
    assert set(SHEETS) == expected | {"caliva", "poster_2"}


def test_the_grid_is_its_csv():
    metrics = ["biou", "iou", "dice", "superiority_biou"]
    for r in PUBLISHED["dist_thesis"].to_dict("records"):
        column = metrics.index(r["metric"]) + (4 if r["dataset"] == "celebamask_hq" else 0)
        found = cell(r["table"], LOSSES[r["loss"]], column)
        assert found == dressed(r["value"], r["printed_bold"], r["printed_delta"])


def test_the_wins_are_their_csv():
    metrics = ["biou", "iou", "dice", "superiority_biou"]
    for r in PUBLISHED["dist_thesis_wins"].to_dict("records"):
        column = metrics.index(r["metric"]) + (4 if r["dataset"] == "celebamask_hq" else 0)
        assert cell("4.7", LOSSES[r["loss"]], column) == dressed(r["wins"], r["printed_bold"])


def test_the_convergence_is_its_csv():
    for r in PUBLISHED["dist_thesis_convergence"].to_dict("records"):
        label = NETWORKS[r["architecture"], r["encoder"]] + ("**" if r["seed"] == "1234" else "")
        found = cell(r["table"], label, list(LOSSES).index(r["loss"]))
        assert found == dressed(r["epochs"] or "-", r["bold"])


def test_the_folds_are_their_csv():
    metrics = ["biou", "iou", "dice"]
    for r in PUBLISHED["dist_thesis_crossval"].to_dict("records"):
        place = metrics.index(r["metric"])
        if r["table"] == "4.11":
            label, place = LOSSES[r["loss"]], 2 * place + (r["stat"] == "std")
        else:
            label = FOLD.get(r["stat"], f"Fold-{r['fold']}")
        assert cell(r["table"], label, place) == dressed(r["value"], r["printed_bold"])


def test_table_3_1_is_its_csv():
    for r in PUBLISHED["dist_thesis_table31"].to_dict("records"):
        assert cell("3.1", LOSSES[r["loss"]], int(r["prediction"]) - 1) == r["value"]


def test_bakos_is_its_csv():
    for r in PUBLISHED["medical_thesis"].to_dict("records"):
        name = f"medical_{r['table']}"
        column = list(SHEETS[name].columns).index(r["metric"])
        label = BAKOS_ROWS[r["model"] if r["table"] == "1" else r["loss"]]
        assert cell(name, label, column) == r["value"]
        if r["table"] == "1":
            assert cell(name, label, column, below=1) == f"({r['std']})"


def test_caliva_and_the_poster_are_their_csv():
    for r in PUBLISHED["distance_map_penalty"].to_dict("records"):
        column = ["b_dsc", "g_dsc"].index(r["metric"]) * 2
        assert cell("caliva", CALIVA[r["loss"]], column) == r["mean"]
        assert cell("caliva", CALIVA[r["loss"]], column + 1) == r["std"]
    for r in PUBLISHED["cxr_poster"].to_dict("records"):
        column = ["iou_score", "binary_accuracy"].index(r["metric"])
        assert cell("poster_2", POSTER[r["loss"]], column) == r["value"]


@pytest.mark.parametrize("sheet", SHEETS.values(), ids=SHEETS)
def test_no_cell_is_shown_that_the_csv_does_not_have(sheet):
    source = {"3": 12, "4.7": 42, "4.9": 42, "4.10": 42, "4.11": 36, "caliva": 16, "poster_2": 10}
    sizes = {"A": 21, "4": 42, "medical_1": 48, "medical_2": 8, "medical_3": 16, "medical_4": 12}
    known = {**sizes, **source}
    assert len(sheet.cells) == known.get(sheet.name, known.get(sheet.name.split(".")[0]))


def test_without_runs_every_cell_but_table_3_1_is_not_run():
    for name, sheet in SHEETS.items():
        for shown in sheet.show("compared").values():
            assert shown.text.endswith(("not run", "not published")), name
        assert set(sheet.show("measured").values()) == {Shown("")}


def test_a_caption_says_how_to_make_what_is_missing():
    caption = SHEETS["4.2"].caption("measured")
    for part in ("Aggregation dataset", "Split: cityscapes val, celebamask_hq test", "0 of 42",
                 "experiment=thesis_cityscapes", "encoder=resnet50", "Seeds"):  # fmt: skip
        assert part in caption
    assert "reproduced where" in SHEETS["4.2"].caption("compared")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(DataError, match="dist_thesis.csv"):
        read(tmp_path)


BROKEN = {  # file, what is done to its text, what is said of it
    "text for a number": ("dist_thesis", ("0.5008", "abc"), r"line 2, column value: 'abc'"),
    "decimal comma, quoted": ("dist_thesis", ("0.5008", '"0,5008"'), "line 2, column value"),
    "decimal comma": ("dist_thesis", ("0.5008", "0,5008"), "line 2 has 12 cells, the header 11"),
    "decimal commas": ("cxr_poster", ("0.", "0,"), "line 2 has 5 cells, the header 4"),
    "a column renamed": ("dist_thesis_wins", ("wins,", "won,"), "also wins"),
    "a column twice": ("cxr_poster", ("metric,value", "value,value"), "also metric, value"),
    "a line twice": ("cxr_poster", ("2,focal,", "2,jaccard,"), "line 6 says again what line 4"),
    "a line less": ("dist_thesis_table31", ("3.1,2,dist,0.296\n", ""), "11 rows, not 12"),
    "cut": ("medical_thesis", (re.compile("3,unet[\\s\\S]*"), ""), "rows, not 60"),
    "cut in a line": ("cxr_poster", (re.compile(",0.9828550[\\s\\S]*"), ""), "line 11 has 3 cells"),
    "another loss": ("dist_thesis_wins", ("ce,cityscapes,val,iou", "cee,cityscapes,val,iou"),
                     "line 3, column loss: 'cee' stands in no other line"),
    "bold neither true nor false": ("dist_thesis_convergence", ("true", "True"), "column bold"),
    "a quote that never ends": ("cxr_poster", ("0.98", '"0.98'), "cannot be read"),
    "empty": ("cxr_poster", (re.compile("[\\s\\S]+"), ""), "also table, loss, metric, value"),
}  # fmt: skip


@pytest.mark.parametrize(("name", "change", "said"), BROKEN.values(), ids=BROKEN)
def test_a_broken_file_is_named_with_the_place_and_what_brings_it_back(
    tmp_path, name, change, said
):
    folder = tmp_path / "published"
    shutil.copytree(ROOT / "results" / "published", folder)
    path = folder / f"{name}.csv"
    old, new = change
    text = path.read_text(encoding="utf-8")
    changed = old.sub(new, text) if isinstance(old, re.Pattern) else text.replace(old, new)
    assert changed != text
    path.write_text(changed, encoding="utf-8")
    with pytest.raises(DataError) as error:
        read(folder)
    assert re.search(said, str(error.value))
    assert str(error.value).startswith(f"{path}: cannot be read (")
    assert str(error.value).endswith(f"`git checkout {path}` brings it back.")


def test_latex_has_booktabs_spans_and_escapes():
    text = render.latex(SHEETS["4.1"])
    assert r"\multicolumn{4}{c}{Cityscapes} & \multicolumn{3}{c}{CelebAMask-HQ}" in text
    assert r"Dice \& Focal & 0.4454 $_{(+0.1323)}$" in text
    assert r"\textbf{0.7451} $_{(-0.0006)}$" in text
    assert r"\cmidrule(lr){6-8}" in text
    assert r"Superiority bIoU (\%)" in text
    assert text.count(r"\begin{table}") == text.count(r"\bottomrule") == 3


def test_csv_keeps_the_printed_strings():
    lines = render.tidy_csv(SHEETS["4.1"]).splitlines()
    assert "4.1,Dice,cityscapes:dice,0.809,(+0.0348),false,,,,not run,," in lines
    assert len(lines) == 43
