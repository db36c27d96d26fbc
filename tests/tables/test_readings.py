"""What is damaged in a run ends in an error that names the file."""

import json

import pandas as pd
import pytest

from seglab import store
from seglab.errors import RunError
from seglab.tables.readings import Convention, read_run
from tests.tables.runs import make_run

CONVENTION = Convention("dataset", 0.02, "best")


@pytest.fixture
def folder(tmp_path):
    make_run(tmp_path, curve=(0.1, 0.2, 0.3))
    return next((tmp_path / "runs").iterdir())


def read(folder):
    return read_run(store.stored(folder), CONVENTION)


def set_entry(folder, path, value):
    record = json.loads((folder / "record.json").read_text())
    *sections, key = path.split(".")
    holder = record
    for section in sections:
        holder = holder[section]
    holder[key] = value
    (folder / "record.json").write_text(json.dumps(record))


def of(epoch, split):
    return lambda t: (t["epoch"] == epoch) & (t["split"] == split)


DAMAGE = {
    "a row twice": lambda t: pd.concat([t, t.iloc[[1]]]),
    "an epoch less": lambda t: t[t["epoch"] != 2],
    "the first epoch less": lambda t: t[t["epoch"] != 1],
    "cut after a line": lambda t: t[~of(3, "train")(t)],
    "no training": lambda t: t[t["split"] == "val"],
    "another split": lambda t: t.assign(split=t["split"].mask(of(2, "val")(t), "vall")),
    "an epoch without number": lambda t: t.assign(epoch=t["epoch"].mask(of(2, "val")(t))),
    "a word": lambda t: t.assign(biou=["junk"] * len(t)),
    "an infinite share": lambda t: t.assign(biou=t["biou"].mask(of(3, "val")(t), float("inf"))),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_epochs_have_each_epoch_once_for_each_split_and_numbers(folder, damage):
    read(folder)
    path = folder / "epochs.csv"
    damage(pd.read_csv(path)).to_csv(path, index=False)
    with pytest.raises(RunError, match=r"epochs\.csv.* Delete the run to do it again\."):
        read(folder)


def test_epochs_are_as_many_as_the_record_says_where_it_does(folder):
    set_entry(folder, "epochs", 3)
    assert len(read(folder).curve) == 3
    path = folder / "epochs.csv"
    epochs = pd.read_csv(path)
    epochs[epochs["epoch"] < 3].to_csv(path, index=False)
    with pytest.raises(RunError, match=r"epochs\.csv: has not each epoch from 1 to 3 once"):
        read(folder)


@pytest.mark.parametrize(
    ("path", "value"),
    [("best_epoch", 4), ("dataset.test_images", "junk"), ("dataset.classes", None),
     ("science.dataset", None), ("science.dataset.fold", "junk"), ("science.optimizer.lr", "junk"),
     ("science.dataset.split", {"fold": "junk"}), ("choices.experiment", ["junk"])],
)  # fmt: skip
def test_what_the_tables_rely_on_in_a_record_is_of_its_kind(folder, path, value):
    set_entry(folder, path, value)
    with pytest.raises(RunError, match=rf"record\.json: .*{path.split('.')[-1]}.*Delete the run"):
        read(folder)


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ("a,1,mm,0.5\na,1,mm,0.5", "twice"),
        ("a,1,mm,0.5\nb,1,mm,junk", "words among the numbers of b_dsc"),
    ],
)
def test_a_further_evaluation_has_each_image_once_and_numbers(folder, rows, said):
    (folder / "further-test.csv").write_text(f"image,class,unit,b_dsc\n{rows}\n")
    with pytest.raises(RunError, match=rf"further-test\.csv: .*{said}.*evaluate\.py"):
        read(folder)
