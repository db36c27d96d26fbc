"""scripts/compare.py on made run folders."""

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from seglab import record, scores
from tests.conftest import ROOT

RATIOS = [0.02, 0.005]
CLASSES = 2


def counted(images, quality, seed):
    """(N, K, 1 + R, 3): the truth depends on nothing, what is found on the quality and seed."""
    size = np.random.default_rng(0).integers(50, 500, (images, CLASSES, 1 + len(RATIOS)))
    tp = np.random.default_rng(seed).binomial(size, quality)
    fp = np.random.default_rng(seed + 1).binomial(size, (1 - quality) / 2)
    return np.stack([tp, fp, size - tp], axis=-1)


def rows(counts, names, checkpoint, split, ratios):
    """As experiment.counts_table makes them."""
    images, classes = counts.shape[:2]
    flat = counts.reshape(images * classes, -1, 3)
    columns = {
        "checkpoint": checkpoint,
        "split": split,
        "image": np.repeat(np.array(names, dtype=object), classes),
        "class": np.tile(np.arange(classes), images),
    }
    for position, prefix in enumerate(["", *(f"boundary_{ratio:g}_" for ratio in ratios)]):
        for column, what in enumerate(("tp", "fp", "fn")):
            columns[prefix + what] = flat[:, position, column]
    return pd.DataFrame(columns)


@pytest.fixture
def made(results):
    """made("a", counts, ...) writes a run folder and returns it."""

    def made_(
        name,
        counts,
        *,
        split="test",
        names=None,
        data="d" * 64,
        ratios=RATIOS,
        windows_of=10**9,
        **kept,
    ):
        folder = results / "runs" / name
        folder.mkdir(parents=True)
        names = [f"image-{i:02d}" for i in range(len(counts))] if names is None else names
        science = {
            "metrics": {"boundary_ratios": ratios},
            "data": data,
            "loss": {"name": name},
            "seed": 1,
            "encoder": {"name": "resnet34"},
        }
        values = {
            "status": "finished",
            "run_id": name,
            "seed": 1,
            "code": {"engine.py": "c"},
            "choices": {"dataset": "shapes", "model": "unet", "loss": f"loss-{name}"},
            "best_epoch": 1,
            "train_seconds": 1.0,
            "peak_memory_bytes": 1,
            "dataset": {"test_split": "test", "test_images": windows_of},
            "science": science,
        }
        record.write_record(folder, values | kept)
        tables = [rows(counts, names, checkpoint, split, ratios) for checkpoint in ("last", "best")]
        tables[0]["tp"] //= 2
        tables[0]["fn"] += tables[1]["tp"] - tables[0]["tp"]
        record.write_images(folder, pd.concat(tables))
        record.write_epochs(folder, [{"epoch": 1, "split": "val"}])
        return folder

    return made_


@pytest.fixture
def compare(results, monkeypatch, capsys):
    """compare("a", "b", ...) -> (exit code, what it printed, its error)."""
    sys.path.insert(0, str(ROOT / "scripts"))
    try:
        import compare as script
    finally:
        sys.path.remove(str(ROOT / "scripts"))

    def compare_(*arguments):
        line = ["compare.py", *map(str, arguments), "--results", str(results)]
        monkeypatch.setattr(sys, "argv", [*line, "--resamples", "500"])
        code = script.config.guarded(script.main, [])
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return compare_


def line_of(text, start):
    return next(line for line in text.splitlines() if line.startswith(start))


@pytest.mark.parametrize("aggregation", scores.AGGREGATIONS)
def test_it_prints_the_difference_of_every_metric(made, compare, aggregation):
    a, b = counted(40, 0.9, 1), counted(40, 0.7, 3)
    folder = made("a", a)
    made("b", b)
    code, text, error = compare(folder, "b", "--aggregation", aggregation)
    assert (code, error) == (0, "")
    one, other = (scores.summarise(counts, RATIOS, aggregation) for counts in (a, b))
    assert list(one) == ["biou", "iou", "dice", "biou_0.005"]
    for metric, value in one.items():
        cells = line_of(text, f"{metric} ").split()
        gap = value - other[metric]
        assert cells[1:4] == [f"{value:.4f}", f"{other[metric]:.4f}", f"{gap:+.4f}"]
        low, high = (float(cell.strip("[],")) for cell in cells[4:6])
        assert 0 < low < gap < high < 1
        assert cells[6] == "0.001" or cells[6] == "<0.001" or float(cells[6]) < 0.05
        assert cells[-1] == "40"
        assert "the interval leaves out 0: A is better" in line_of(text, f"{metric}:")
    assert f"aggregation {aggregation}" in text
    assert "One run each: this says nothing about other seeds." in text
    assert "Note" not in text


def test_the_better_run_may_be_the_second_and_last_is_another_checkpoint(made, compare):
    made("a", counted(40, 0.7, 1))
    made("b", counted(40, 0.9, 3))
    assert "the interval leaves out 0: B is better" in compare("a", "b")[1]
    best, last = compare("a", "b")[1], compare("a", "b", "--checkpoint", "last")[1]
    assert line_of(best, "iou ") != line_of(last, "iou ")
    assert line_of(best, "biou ") == line_of(last, "biou ")


def test_runs_that_differ_by_chance_are_not_distinguishable(made, compare):
    made("a", counted(40, 0.8, 1))
    made("b", counted(40, 0.8, 3))
    _, text, _ = compare("a", "b")
    verdict = "iou: the interval contains 0: these runs are not distinguishable on these 40 images."
    assert line_of(text, "iou:") == verdict
    made("copy", counted(40, 0.8, 1))
    _, text, _ = compare("a", "copy")
    assert line_of(text, "iou:") == (
        "iou: the runs count alike on these 40 images: there is no difference."
    )


def test_one_image_and_few_images_have_no_interval(made, compare):
    made("a", counted(1, 0.9, 1))
    made("b", counted(1, 0.7, 3))
    code, text, _ = compare("a", "b")
    assert code == 0
    assert "n/a" in line_of(text, "iou ")
    assert line_of(text, "iou:").endswith("(one image: no interval over images).")
    made("c", counted(4, 0.9, 1))
    made("d", counted(4, 0.7, 3))
    assert "4 images: too few for an interval" in line_of(compare("c", "d")[1], "iou:")


def test_the_ten_images_that_differ_most_come_first(made, compare):
    a, b = counted(30, 0.8, 1), counted(30, 0.8, 3)
    b[17, :, 0] = [[0, 9, t] for t in a[17, :, 0, 0] + a[17, :, 0, 2]]
    made("a", a)
    made("b", b)
    _, text, _ = compare("a", "b")
    shown = text.split("differ most")[1].splitlines()[2:]
    assert len(shown) == 10
    assert shown[0].split()[0] == "image-17"
    assert shown[0].split()[2] == "0.0000"
    gaps = [abs(float(line.split()[3])) for line in shown]
    assert gaps == sorted(gaps, reverse=True)
    values = np.array([np.nanmean(scores.iou(x[:, :, 0]), axis=1) for x in (a, b)])
    expected = np.argsort(-np.abs(values[0] - values[1]), kind="stable")[:10]
    assert [line.split()[0] for line in shown] == [f"image-{i:02d}" for i in expected]


def test_the_order_of_the_images_does_not_matter(made, compare):
    a, b = counted(20, 0.9, 1), counted(20, 0.7, 3)
    order = np.random.default_rng(0).permutation(20)
    made("a", a)
    made("b", b)
    made("shuffled", b[order], names=[f"image-{i:02d}" for i in order])
    one, other = (compare("a", name)[1].split("\n\n")[1:] for name in ("b", "shuffled"))
    assert one == other


def test_what_cannot_be_compared_is_refused_in_one_message(made, compare):
    counts = counted(12, 0.8, 1)
    made("a", counts)
    made("data", counts, data="e" * 64)
    made("images", counts, names=[f"image-{i:02d}" for i in range(1, 13)])
    made("split", counts, split="val")
    made("truth", counts + [0, 0, 1])
    made("classes", counts[:, :1])
    made("running", counts, status="running")
    half = made("half", counts)
    table = pd.read_parquet(half / "images.parquet")
    record.write_images(half, table.iloc[:-1])
    bands = counts.copy()
    bands[:, :, 2, 2] += 1
    made("widths", bands)
    for name, message in {
        "data": "different data: fingerprints dddddddddddd and eeeeeeeeeeee",
        "images": "different images in split test: 1 only in the first, 1 only in the second",
        "split": "has no split test for checkpoint best. It has: val.",
        "truth": "different truth masks",
        "classes": "different classes: 2 and 1",
        "running": "is running, not finished",
        "half": "not one row for each image and class",
        "widths": "boundary bands of different widths for ratio 0.005",
        "nowhere": "nowhere: neither a run's folder nor a run_id in",
    }.items():
        code, text, error = compare("a", name)
        assert (code, text) == (1, ""), name
        assert error.startswith("Error: ")
        assert message in error
        assert error.count("\n") == 1
    assert "There are: a, classes" in error
    code, _, error = compare("a", "a", "--split", "val")
    assert "has no split val" in error


def test_what_else_differs_is_noted(made, compare):
    made("a", counted(12, 0.8, 1))
    science = {
        "metrics": {"boundary_ratios": [0.02]},
        "data": "d" * 64,
        "loss": {"name": "b"},
        "seed": 2,
        "encoder": {"name": "resnet34"},
    }
    made(
        "b", counted(12, 0.8, 3)[:, :, :2], ratios=[0.02], code={"engine.py": "d"}, science=science
    )
    _, text, _ = compare("a", "b")
    assert "they differ in more than one thing (loss, metrics, seed)" in text
    assert "different versions of the code" in text
    assert "only one of them counted boundary bands of ratio 0.005: left out" in text
    assert "biou_0.005 " not in text


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("record.json", "[]", "record.json: cannot be read (it is no mapping)"),
        ("record.json", '{"status": "finished"}', "record.json: run_id, seed, science, "),
        ("images.parquet", "cut", "images.parquet: cannot be read"),
    ],
)
def test_a_damaged_run_is_named_in_one_message(made, compare, name, content, said):
    made("a", counted(12, 0.8, 1))
    folder = made("b", counted(12, 0.8, 3))
    (folder / name).write_text(content)
    code, text, error = compare("a", "b")
    assert (code, text) == (1, "")
    assert said in error
    assert "Traceback" not in error


def test_it_runs_as_a_command_without_torch(made, results):
    made("a", counted(12, 0.8, 1))
    made("b", counted(12, 0.8, 3))
    code = "import runpy, sys; sys.argv = sys.argv[1:]\n"
    code += "try: runpy.run_path(sys.argv[0], run_name='__main__')\n"
    code += "except SystemExit as end: assert not end.code, end.code\n"
    code += "assert 'torch' not in sys.modules"
    command = [sys.executable, "-c", code, "scripts/compare.py", "a", "b", "--results", results]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "10000 resamples" in done.stdout


def test_windows_of_one_image_give_no_interval(made, compare):
    made("a", counted(12, 0.9, 1), windows_of=1)
    made("b", counted(12, 0.5, 2), windows_of=1)
    code, text, _ = compare("a", "b")
    assert code == 0
    assert "windows of one image, and not independent" in text
    (line,) = (line for line in text.splitlines() if line.startswith("iou "))
    assert line.split()[4:7] == ["n/a", "n/a", "n/a"]
    assert "interval leaves out 0" not in text
