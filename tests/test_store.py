"""Finished runs read back: whole, in one order whatever the file's, or named."""

import numpy as np
import pandas as pd
import pytest

from seglab import record, store
from seglab.errors import RunError
from tests.tables.runs import make_run


@pytest.fixture
def run(tmp_path):
    """One run of two images and three classes."""
    make_run(tmp_path, classes=3)
    (run,) = store.finished_runs(tmp_path)
    return run


def rewrite(run, change):
    path = run.folder / "images.parquet"
    change(pd.read_parquet(path)).to_parquet(path, index=False)


def assert_same(found, expected):
    assert found.keys() == expected.keys()
    for key, evaluation in expected.items():
        assert found[key].images == evaluation.images
        np.testing.assert_array_equal(found[key].counts, evaluation.counts)


def test_counts_are_those_of_the_rows(run):
    found = run.evaluations("best", "last")
    assert list(found) == [("best", "test"), ("best", "val"), ("last", "test"), ("last", "val")]
    table = pd.read_parquet(run.folder / "images.parquet")
    table = table.query("checkpoint == 'last' and split == 'val'")
    counts = found["last", "val"].counts
    assert (counts.shape, counts.dtype) == ((2, 3, 3, 3), np.int32)
    for _, row in table.iterrows():
        image = found["last", "val"].images.index(row["image"])
        expected = [
            [row[prefix + what] for what in ("tp", "fp", "fn")]
            for prefix in ("", "boundary_0.02_", "boundary_0.005_")
        ]
        np.testing.assert_array_equal(counts[image, row["class"]], expected)
    np.testing.assert_array_equal(run.counts("last", "val"), counts)


@pytest.mark.parametrize("order", range(3))
def test_the_order_of_the_rows_does_not_matter(run, order):
    expected = run.evaluations("best", "last")
    rewrite(run, lambda table: table.sample(frac=1, random_state=order))
    assert_same(run.evaluations("best", "last"), expected)


@pytest.mark.parametrize("kind", ["category", "string[pyarrow]", "object"])
def test_however_the_names_are_stored(run, kind):
    expected = run.evaluations("best")
    rewrite(run, lambda table: table.astype(dict.fromkeys(store.KEYS, kind)).iloc[::-1])
    assert_same(run.evaluations("best"), expected)


def test_counts_that_int32_cannot_sum_are_int64(run):
    rewrite(run, lambda table: table.assign(tp=2**30))
    counts = run.counts("best", "val")
    assert counts.dtype == np.int64
    assert (counts[:, :, 0, 0] == 2**30).all()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda table: table.iloc[1:], "not one row for each image and class"),
        (lambda table: pd.concat([table, table.iloc[:1]]), "not one row for each image and class"),
        (lambda table: table.drop(columns="boundary_0.02_fn"), "no column boundary_0.02_fn"),
    ],
)
def test_a_file_that_lost_something_is_named(run, change, said):
    rewrite(run, change)
    with pytest.raises(RunError, match=rf"images.parquet: cannot be read \(it has {said}"):
        run.evaluations("best", "last")


@pytest.mark.parametrize("name", ["images.parquet", "epochs.csv"])
def test_a_file_is_what_the_run_wrote_or_is_named(run, name):
    kept = store.StoredRun(run.folder, {**run.record, "files": record.digests(run.folder)})
    read = kept.epochs if name == "epochs.csv" else lambda: kept.evaluations("best")
    read()
    if name == "epochs.csv":  # cut at a line's end, it reads as well as before
        path = run.folder / name
        path.write_text("\n".join(path.read_text().splitlines()[:-1]) + "\n")
    else:  # so does a table that has lost an image
        rewrite(run, lambda table: table[table["image"] != table["image"].iloc[0]])
    run.epochs(), run.evaluations("best")
    with pytest.raises(RunError, match=rf"{name}: is not what the run wrote"):
        read()


def test_text_among_numbers_is_named(run):
    rewrite(run, lambda table: table.assign(tp="many"))
    with pytest.raises(RunError, match=r"images.parquet: cannot be read"):
        run.evaluations("best")
    path = run.folder / "epochs.csv"
    table = run.epochs().astype({"biou": object})
    table.loc[0, "biou"] = "high"
    table.to_csv(path, index=False)
    with pytest.raises(RunError, match=r"epochs.csv: cannot be read"):
        run.epochs()


@pytest.mark.parametrize("name", ["images.parquet", "epochs.csv"])
@pytest.mark.parametrize("damage", [lambda path: path.write_bytes(b""), lambda path: path.unlink()])
def test_a_broken_file_is_named(run, name, damage):
    damage(run.folder / name)
    with pytest.raises(RunError, match=rf"{name}: cannot be read .* Delete the run"):
        run.evaluations("best") if name == "images.parquet" else run.epochs()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("seed", "first"),
        ("best_epoch", None),
        ("train_seconds", "long"),
        ("choices.loss", None),
        ("dataset.test_split", 1),
        ("science.encoder", {}),
        ("science.encoder", "resnet34"),
        ("science.metrics.boundary_ratios", []),
        ("science.metrics.boundary_ratios", ["narrow"]),
        ("science.optimizer", "adamw"),
    ],
)
def test_a_record_that_says_something_else_is_named_by_its_key(run, key, value):
    kept = dict(run.record)
    *path, last = key.split(".")
    section = kept
    for name in path:
        section = section[name]
    section[last] = value
    record.write_record(run.folder, kept)
    with pytest.raises(RunError, match=rf"record.json: {key}.*: missing, or not what a run"):
        store.stored(run.folder)


def test_a_survey_has_every_whole_run_and_names_each_other_folder(tmp_path):
    for loss in ("ce", "dice", "dist"):
        make_run(tmp_path, loss=loss)
    broken, torn, whole = sorted((tmp_path / "runs").iterdir())
    (broken / "record.json").write_text('{"status": "finished", ')
    (torn / "record.json").write_text('{"status": "finished", "seed": 1}')
    (tmp_path / "runs" / "empty").mkdir()
    runs, damaged = store.survey(tmp_path)
    assert [run.folder for run in runs] == [whole]
    assert [str(error).split(":")[0] for error in damaged] == [
        str(tmp_path / "runs" / "empty"), str(broken / "record.json"), str(torn / "record.json"),
    ]  # fmt: skip
    assert "record.json: run_id, science, choices, dataset, best_epoch, " in str(damaged[2])
    with pytest.raises(RunError, match="empty: holds no finished run"):
        store.finished_runs(tmp_path)
