"""A run from its configuration to its record, in this process, on made images."""

import contextlib
import importlib
import itertools
import json
import math
import shutil
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from PIL import Image

from seglab import checkpoint, experiment, record, reload, store
from seglab.data.shapes import Shapes
from seglab.engine import Engine
from seglab.errors import ConfigError, DataError, RunError
from seglab.metrics import boundary_counts, region_counts
from tests.data import trees
from tests.data.trees import save

TIMES = ("seconds", "images_per_second", "peak_memory_bytes", "peak_memory_share")
FILES = {
    "config.yaml", "record.json", "epochs.csv", "images.parquet",
    "best.ckpt", "last.ckpt", "weights.safetensors", "figures",
}  # fmt: skip


def numbers(folder):
    """Everything of a run that must not depend on the moment or the machine's mood."""
    epochs = pd.read_csv(folder / "epochs.csv").drop(columns=list(TIMES))
    images = pd.read_parquet(folder / "images.parquet")
    weights = checkpoint.load_weights(folder / "weights.safetensors")
    return epochs, images, weights


def assert_same_numbers(one, other):
    a, b = numbers(one), numbers(other)
    pd.testing.assert_frame_equal(a[0], b[0], check_exact=True)
    pd.testing.assert_frame_equal(a[1], b[1], check_exact=True)
    assert a[2].keys() == b[2].keys()
    assert all(torch.equal(a[2][name], b[2][name]) for name in a[2])


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """One finished run that several tests look at."""
    from seglab import config
    from tests.conftest import TINY

    results = tmp_path_factory.mktemp("finished") / "results"
    overrides = [*TINY, f"results_dir='{results}'", "loss=dist", "trainer.epochs=3"]
    return experiment.run(config.read(*config.compose(overrides)))


def test_a_finished_run_has_every_file_and_leaves_no_draft(finished):
    assert {path.name for path in finished.iterdir()} == FILES
    drafts = finished.parents[1] / "drafts"
    assert [path.name for path in drafts.iterdir() if path.is_dir()] == []


def test_the_record_says_what_made_the_run(finished):
    found = record.read_record(finished)
    assert found["status"] == "finished"
    assert found["reason"] is None
    assert found["run_id"] == finished.name
    assert found["choices"]["loss"] == "dist"
    assert found["seed"] == 42
    assert found["parameters"] > 1_000_000
    assert found["versions"]["torch"].split("+")[0] == torch.__version__.split("+")[0]
    assert found["boundary_widths"] == {"0.02": 1, "0.005": 1}
    tested = pd.read_parquet(finished / "images.parquet").query("split == 'test'")["image"]
    assert found["dataset"]["test_images"] == tested.nunique()  # drawn, so each is one of its own
    assert 0 < found["peak_memory_share"] < 1
    assert set(found["seconds"]) == {"setup", "fit", "evaluate", "record"}
    assert yaml.safe_load((finished / "config.yaml").read_text())["loss"]["distance"] == "euclidean"


def test_the_best_epoch_is_the_one_with_the_best_validation_biou(finished):
    epochs = pd.read_csv(finished / "epochs.csv")
    validation = epochs[epochs["split"] == "val"].set_index("epoch")["biou"]
    assert list(validation.index) == [1, 2, 3]
    assert record.read_record(finished)["best_epoch"] == validation.idxmax()
    best = torch.load(finished / "best.ckpt", weights_only=True)
    assert best["epoch"] + 1 == validation.idxmax()


def test_the_counts_are_those_of_the_stored_weights(finished):
    run = reload.load(finished)
    stored = store.StoredRun(finished, run.record)
    for name in ("val", "test"):
        source, split = _split(run, name)
        counts = stored.counts("best", name)
        for row, (image, mask) in enumerate(split):
            predicted = run.predict(torch.from_numpy(image.transpose(2, 0, 1).copy())[None])
            target = torch.from_numpy(mask)[None]
            expected = region_counts(predicted, target, source.num_classes)[0]
            np.testing.assert_array_equal(counts[row, :, 0], expected)
            expected = boundary_counts(predicted, target, source.num_classes, 1)[0]
            np.testing.assert_array_equal(counts[row, :, 1], expected)


def _split(run, name):
    from seglab import config
    from seglab.data.preprocess import Preprocess

    source = config.build(run.settings, "dataset")
    own = Preprocess(run.settings.dataset.size, run.settings.dataset.pad)
    return source, [own(source.read_image(s), source.read_mask(s)) for s in source.samples(name)]


def test_the_epochs_say_what_the_counts_say(finished):
    from seglab import scores

    run = store.StoredRun(finished, record.read_record(finished))
    last = run.epochs().query("split == 'val'").iloc[-1]
    for aggregation, suffix in (("dataset", ""), ("image", "_image")):
        expected = scores.summarise(run.counts("last", "val"), run.ratios, aggregation)
        for name, value in expected.items():
            assert last[name + suffix] == pytest.approx(value, rel=1e-12, nan_ok=True)


def test_the_same_command_twice_gives_the_same_record(tiny, tmp_path):
    runs = [
        experiment.run(tiny("loss=ce", "model=deeplabv3plus", f"results_dir='{tmp_path / name}'"))
        for name in "ab"
    ]
    assert runs[0].name == runs[1].name
    assert_same_numbers(*runs)
    records = [record.read_record(run) for run in runs]
    times = {"started", "finished", "seconds", "train_seconds", "peak_memory_bytes",
             "peak_memory_share", "files"}  # fmt: skip
    a, b = ({k: v for k, v in r.items() if k not in times} for r in records)
    assert a == b


@pytest.mark.parametrize(
    "override", ["data.on_device=yes", "data.prepare=no", "data.workers=1"], ids=str
)
def test_how_the_data_is_fed_changes_no_number(tiny, finished, tmp_path, override):
    settings = tiny("loss=dist", "trainer.epochs=3", override, f"results_dir='{tmp_path}'")
    assert_same_numbers(experiment.run(settings), finished)


def test_the_epochs_take_the_images_in_different_orders(tiny, monkeypatch):
    seen = []
    untouched = Engine.training_step

    def noted(self, batch, batch_idx):
        seen.append((self.current_epoch, batch["index"].tolist()))
        return untouched(self, batch, batch_idx)

    monkeypatch.setattr(Engine, "training_step", noted)
    experiment.run(tiny("loss=ce"))
    first, second = ([i for epoch, i in seen if epoch == wanted] for wanted in (0, 1))
    assert first != second
    assert sorted(sum(first, [])) == sorted(sum(second, [])) == list(range(6))


def test_another_seed_gives_other_numbers(tiny, finished):
    other = experiment.run(tiny("trainer.epochs=3", "seed=7"))
    assert other.name != finished.name
    with pytest.raises(AssertionError):
        assert_same_numbers(other, finished)


class Cut(Exception):
    """Something that ends a run in the middle."""


@contextlib.contextmanager
def cut_at(step, monkeypatch):
    """What runs within is cut when its training step number `step` begins."""
    untouched, taken = Engine.training_step, itertools.count()

    def cut(self, batch, batch_idx):
        if next(taken) == step:
            raise Cut
        return untouched(self, batch, batch_idx)

    with monkeypatch.context() as patch:
        patch.setattr(Engine, "training_step", cut)
        with pytest.raises(Cut):
            yield


@pytest.mark.parametrize("step", [0, 2, 4, 8])
def test_a_run_that_was_cut_goes_on_and_ends_like_an_unbroken_one(tiny, results, monkeypatch, step):
    """With dropout (DeepLabv3+), cut in the first, a middle and the last of 3 epochs of 3 steps."""
    overrides = ("loss=dice_focal", "model=deeplabv3plus", "trainer.epochs=3")
    whole = experiment.run(tiny(*overrides, f"results_dir='{results / 'whole'}'"))
    with cut_at(step, monkeypatch):
        experiment.run(tiny(*overrides))
    (draft,) = (p for p in (results / "drafts").iterdir() if p.is_dir())
    assert record.read_record(draft)["status"] == "failed"
    resumed = experiment.run(tiny(*overrides))
    assert_same_numbers(resumed, whole)


def test_a_run_that_goes_on_under_other_code_says_so_and_is_stale(
    tiny, results, capfd, monkeypatch
):
    with cut_at(4, monkeypatch):
        experiment.run(tiny("loss=ce"))
    (draft,) = (p for p in (results / "drafts").iterdir() if p.is_dir())
    kept = record.read_record(draft)
    now = kept["code"]["losses/cross_entropy.py"]
    kept["code"]["losses/cross_entropy.py"] = "as it was"
    record.write_record(draft, kept)
    resumed = experiment.run(tiny("loss=ce"))
    said = capfd.readouterr().err
    assert "has changed since it began: losses/cross_entropy.py." in said
    assert f"delete {draft}" in said
    assert record.read_record(resumed)["code"]["losses/cross_entropy.py"] == "as it was"
    assert experiment.run(tiny("loss=ce")) == resumed
    assert "is stale: the code that makes its numbers has changed" in capfd.readouterr().err
    again = experiment.run(tiny("loss=ce", "rerun=stale"))
    assert record.read_record(again)["code"]["losses/cross_entropy.py"] == now


def test_the_code_of_ones_own_loss_is_among_that_which_makes_the_numbers(
    tiny, tmp_path, capfd, monkeypatch
):
    folder = tmp_path / "mine"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))
    path = folder / "seglab_test_own_losses.py"
    path.write_text("from seglab.losses.cross_entropy import CrossEntropy as Mine\n")
    overrides = (
        "loss=ce", "loss._target_=seglab_test_own_losses.Mine", "allow=[seglab_test_own_losses]",
        "trainer.max_steps=1",
    )  # fmt: skip
    finished = experiment.run(tiny(*overrides))
    code = record.read_record(finished)["code"]
    assert [name for name in code if name.startswith("module ")] == [
        "module seglab_test_own_losses"
    ]
    assert "ledger.py" in code  # it says which epoch is the best
    assert record.changed_code(code) == []
    path.write_text(path.read_text() + "# another\n")
    record._hash_of.cache_clear()
    assert record.changed_code(code) == ["module seglab_test_own_losses"]
    assert experiment.run(tiny(*overrides)) == finished
    assert "has changed since: module seglab_test_own_losses." in capfd.readouterr().err
    path.unlink()  # as for a reader elsewhere, who has the record alone
    monkeypatch.delitem(sys.modules, "seglab_test_own_losses")
    importlib.invalidate_caches()
    record._hash_of.cache_clear()
    assert record.changed_code(code) == []


def test_a_run_that_another_process_finished_before_the_lock_is_found(tiny, tmp_path, monkeypatch):
    finished = experiment.run(tiny("loss=ce", "trainer.max_steps=1"))
    aside = finished.rename(tmp_path / "aside")
    lock = record.RunFolder.locked

    @contextlib.contextmanager
    def late(folder):
        aside.rename(finished)
        with lock(folder):
            yield

    monkeypatch.setattr(record.RunFolder, "locked", late)
    monkeypatch.setattr(experiment.Run, "do", lambda _: pytest.fail("it was done again"))
    assert experiment.run(tiny("loss=ce", "trainer.max_steps=1")) == finished


def test_the_uncommitted_change_is_that_of_code_and_configuration(tmp_path):
    def git(*words):
        subprocess.run(["git", "-C", str(tmp_path), *words], check=True, capture_output=True)

    names = ("seglab/loss.py", "configs/loss.yaml", "README.md", "results/demo_grid/config.yaml")
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("one\n")
    git("init", "-q")
    git("add", ".")
    git("-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "one")
    found = record._git(tmp_path)
    assert len(found["commit"]) == 40
    assert found["diff"] is None
    for name in names:
        (tmp_path / name).write_text("two\n")
    changed = [line.split("/", 1)[1] for line in record._git(tmp_path)["diff"].splitlines()
               if line.startswith("+++")]  # fmt: skip
    assert changed == ["configs/loss.yaml", "seglab/loss.py"]  # what a run leaves is neither


def test_the_record_knows_the_files_that_its_numbers_are_read_from(finished):
    kept = record.read_record(finished)["files"]
    assert kept == record.digests(finished)
    assert set(kept) == {"epochs.csv", "images.parquet"}


def test_a_finished_run_is_not_done_again_unless_told(tiny, finished, capfd, monkeypatch):
    overrides = ("loss=dist", "trainer.epochs=3", f"results_dir='{finished.parents[1]}'")
    with monkeypatch.context() as patch:
        patch.setattr(experiment.Run, "do", lambda _: pytest.fail("it was done again"))
        assert experiment.run(tiny(*overrides)) == finished
    assert "is finished" in capfd.readouterr().err
    before = record.read_record(finished)["finished"], numbers(finished)
    again = experiment.run(tiny(*overrides, "rerun=true"))
    assert again == finished
    assert record.read_record(again)["finished"] >= before[0]
    pd.testing.assert_frame_equal(numbers(again)[1], before[1][1])
    (kept,) = (finished.parents[1] / "replaced").iterdir()
    assert record.read_record(kept)["finished"] == before[0]


def test_a_loss_whose_weights_change_is_told_the_epoch_and_leaves_them_in_the_rows(tiny):
    weight = "loss.terms.boundary.weight"
    rule = (f"{weight}.rule=linear", f"{weight}.value=0.25", f"{weight}.highest=0.6")
    finished = experiment.run(tiny("loss=boundary_tversky", *rule, "trainer.epochs=3"))
    epochs = pd.read_csv(finished / "epochs.csv")
    train = epochs[epochs["split"] == "train"]
    assert list(train["weight_boundary"]) == [0.25, 0.5, 0.6]
    assert list(train["weight_tversky"]) == [0.75, 0.5, 0.4]


def test_a_finished_run_may_go_without_its_checkpoints(tiny):
    finished = experiment.run(tiny("loss=ce", "trainer.max_steps=1", "keep_checkpoints=false"))
    assert {path.name for path in finished.iterdir()} == FILES - {"best.ckpt", "last.ckpt"}


def test_a_run_of_other_code_is_stale_and_left_alone_unless_told(tiny, capfd, monkeypatch):
    overrides = ("loss=ce", "trainer.max_steps=1")
    finished = experiment.run(tiny(*overrides))
    assert experiment.run(tiny(*overrides, "rerun=stale")) == finished
    assert "is finished" in capfd.readouterr().err  # it is not stale: nothing is done again
    changed = {**record.code_in_use(), "losses/cross_entropy.py": "another"}
    monkeypatch.setattr(record, "_hash_of", lambda name: changed.get(name, "gone"))
    with monkeypatch.context() as patch:
        patch.setattr(experiment.Run, "do", lambda _: pytest.fail("it was done again"))
        assert experiment.run(tiny(*overrides)) == finished
    assert "has changed since: losses/cross_entropy.py." in capfd.readouterr().err
    assert experiment.run(tiny(*overrides, "rerun=stale")) == finished
    code = record.read_record(finished)["code"]
    assert code["losses/cross_entropy.py"] == "another"
    assert not {"tables/grid.py", "record.py", "config.py"} & set(code)


def test_a_run_on_what_the_data_was_is_stale_and_left_alone_unless_told(
    tiny, results, capfd, monkeypatch
):
    overrides = ("loss=ce", "trainer.max_steps=1")
    finished = experiment.run(tiny(*overrides))
    monkeypatch.setattr(Shapes, "version", 1000)  # what it draws has changed
    assert experiment.run(tiny(*overrides)) == finished
    assert "is stale: it was trained on other data" in capfd.readouterr().err
    again = experiment.run(tiny(*overrides, "rerun=stale"))
    assert again != finished
    assert not finished.exists()
    (kept,) = (results / "replaced").iterdir()
    assert kept.name.startswith(finished.name)


def test_a_loss_that_is_not_finite_stops_the_run_with_epoch_step_and_rate(
    tiny, results, monkeypatch
):
    untouched = Engine.training_step
    taken = iter(range(100))

    def poisoned(self, batch, batch_idx):
        if next(taken) == 4:  # the second of the second epoch's three steps
            forward = self.loss.forward
            monkeypatch.setattr(self.loss, "forward", lambda *a: forward(*a) * math.nan)
        return untouched(self, batch, batch_idx)

    monkeypatch.setattr(Engine, "training_step", poisoned)
    with pytest.raises(RunError, match=r"not finite in epoch 2, step 2 \(learning rate 0\.0003\)"):
        experiment.run(tiny("loss=ce"))
    (draft,) = (p for p in (results / "drafts").iterdir() if p.is_dir())
    found = record.read_record(draft)
    assert found["status"] == "failed"
    assert "epoch 2, step 2" in found["reason"]
    assert torch.load(draft / "last.ckpt", weights_only=True)["epoch"] == 0
    assert not (results / "runs").exists()


def test_a_full_disk_is_said_and_the_last_checkpoint_kept(tiny, results, monkeypatch):
    untouched = torch.save
    saved = iter(range(100))

    def full(value, path):
        if next(saved) == 1:
            raise OSError(28, "No space left on device")
        untouched(value, path)

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(RunError, match=r"last\.ckpt: .*No space left"):
        experiment.run(tiny("loss=ce"))
    (draft,) = (p for p in (results / "drafts").iterdir() if p.is_dir())
    assert checkpoint.is_whole(draft / "last.ckpt")


# ---------------------------------------------------------------- identity


def identity(settings):
    experiment.quieten()
    device = experiment.choose_device(settings)
    data = experiment.open_data(settings, main=True)
    return experiment.identify(settings, device, data.fingerprint)[1].id


@pytest.mark.parametrize(
    "override",
    ["logger=csv", "data.workers=2", "data.on_device=yes", "data.prepare=no", "rerun=true",
     "trainer.devices=2",
     "cache_dir='/tmp/seglab-test-cache'"],
)  # fmt: skip
def test_what_changes_no_number_changes_no_name(tiny, override, tmp_path):
    override = override.replace("/tmp/seglab-test-cache", str(tmp_path / "elsewhere"))
    assert identity(tiny("loss=dist")) == identity(tiny("loss=dist", override))


@pytest.mark.parametrize(
    "override",
    ["loss=ce", "loss.distance=chessboard", "seed=1", "trainer.epochs=5", "trainer.batch_size=3",
     "trainer.precision=bf16-mixed", "model=deeplabv3plus", "encoder=resnet34", "optimizer.lr=1e-3",
     "dataset.seed=5", "metrics.boundary_ratios=[0.05]", "trainer.max_steps=1"],
)  # fmt: skip
def test_what_changes_a_number_changes_the_name(tiny, override):
    assert identity(tiny("loss=dist")) != identity(tiny("loss=dist", override))


def test_the_name_is_readable(tiny):
    assert identity(tiny("loss=dist")).startswith("shapes-unet-mobilenet_v2-dist-s42-")


# ---------------------------------------------------------------- refused before training


def refused(settings, error, match):
    with pytest.raises(error, match=match):
        experiment.run(settings)
    assert not (settings.results_dir / "runs").exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_no_gpu_for_trainer_gpu(tiny):
    refused(tiny("trainer=gpu"), ConfigError, r"trainer\.accelerator=gpu: .*no CUDA GPU")


def test_half_precision_on_a_cpu(tiny):
    refused(tiny("trainer.precision=16-mixed"), ConfigError, r"trainer\.precision=16-mixed: .*GPU")


def test_a_batch_larger_than_the_training_set(tiny):
    settings = tiny("trainer.batch_size=7")
    refused(settings, ConfigError, r"trainer\.batch_size=7: the training split has 6 images")


def test_a_batch_of_one_where_the_network_needs_two(tiny):
    settings = tiny("trainer.batch_size=1", "model=deeplabv3plus")
    refused(settings, ConfigError, r"trainer\.batch_size=1: .*model=deeplabv3plus needs 2")


def test_a_loss_that_learns_from_ignored_pixels_is_refused(tiny):
    overrides = ["loss=ce", "loss._target_=segmentation_models_pytorch.losses.DiceLoss",
                 "+loss.mode=multiclass"]  # fmt: skip
    refused(tiny("dataset.ignored=0.05", *overrides), ConfigError, r"configs/loss/ce\.yaml: ")
    foreign = tiny("dataset.ignored=0.05", *overrides, "+loss.ignore_index=255", "trainer.epochs=1")
    assert experiment.run(foreign).exists()


@pytest.mark.parametrize("name", ["images.parquet", "record.json"])
def test_a_finished_run_that_was_damaged_is_not_called_finished(tiny, finished, tmp_path, name):
    results = tmp_path / "results"
    folder = results / "runs" / finished.name
    shutil.copytree(finished, folder)
    (folder / name).unlink()
    settings = tiny("loss=dist", "trainer.epochs=3", f"results_dir='{results}'")
    with pytest.raises(RunError, match=name):
        experiment.run(settings)


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["loss=focal", "loss.gamma=two"], r"configs/loss/focal\.yaml: .*two"),
        (["loss=focal", "loss.gamma=-1"], r"configs/loss/focal\.yaml: .*gamma=-1"),
        (["optimizer.lr=fast"], r"configs/optimizer/adamw\.yaml: "),
        (["optimizer.lr=-1"], r"configs/optimizer/adamw\.yaml: .*-1"),
        (["+optimizer.lrr=1"], r"configs/optimizer/adamw\.yaml: .*lrr"),
        (
            [
                "loss=ce",
                "dataset.ignored=0",
                "loss._target_=torch.nn.CrossEntropyLoss",
                "+loss.reduction=none",
            ],
            r"configs/loss/ce\.yaml: .*scalar",
        ),
    ],
)
def test_a_value_that_shows_only_in_use_is_refused_before_training(tiny, overrides, words):
    refused(tiny(*overrides), ConfigError, words)


def test_a_size_that_the_network_cannot_take(tiny):
    settings = tiny("dataset.height=40", "model=deeplabv3plus")
    refused(settings, ConfigError, r"40 x 32[\s\S]*32 x 32")


def test_an_unwritable_results_folder(tiny, tmp_path):
    (tmp_path / "file").write_text("")
    settings = tiny(f"results_dir='{tmp_path / 'file' / 'x'}'", f"cache_dir='{tmp_path / 'c'}'")
    with pytest.raises(RunError, match="results_dir=.*cannot be written"):
        experiment.run(settings)


def test_a_data_set_with_a_missing_root(read):
    with pytest.raises(DataError, match=r"dataset\.root[\s\S]*leftImg8bit"):
        experiment.run(read("dataset=cityscapes", "logger=none", "trainer=cpu"))


def test_a_second_process_on_the_same_run(tiny, results):
    settings = tiny("loss=ce")
    folder = record.RunFolder(results, identity(settings))
    with folder.locked():
        refused(settings, RunError, "being worked on by another process")


def test_a_record_holds_no_nan(tmp_path):
    record.write_record(tmp_path, {"a": [math.nan, 1.0], "b": {"c": np.float64("nan")}})
    assert json.loads((tmp_path / "record.json").read_text()) == {
        "a": [None, 1.0],
        "b": {"c": None},
    }


def test_classes_that_no_training_mask_has_are_named(tmp_path, read, capfd):
    """Masks of 0 and 255 are binary; with several classes, all of their foreground is ignored."""
    root = trees.folder(tmp_path / "own")
    told = ("dataset=folder", f"dataset.root='{root}'", "dataset.size=32", "dataset.pad=square")
    with pytest.raises(ConfigError, match=r"hold only 0 and 255.*dataset\.classes=\[foreground\]"):
        experiment.open_data(read(*told, "dataset.classes=[a,b]"), main=True)
    with pytest.raises(ConfigError, match=r"dataset\.classes=cell: must be a list: \[cell\]"):
        experiment.open_data(read(*told, "dataset.classes=cell"), main=True)
    capfd.readouterr()
    experiment.open_data(read(*told, "dataset.classes=[cell]"), main=True)
    assert "Warning" not in capfd.readouterr().err
    for mask in (root / "masks").iterdir():
        save(mask, np.asarray(Image.open(mask)) // 255)
    experiment.open_data(read(*told, "dataset.classes=[a,b,c]"), main=True)
    assert "Warning: 1 of 3 classes occur in no training mask: c" in capfd.readouterr().err


@pytest.mark.parametrize(
    "override",
    [
        "metrics.further=[foo]",
        "loss.distance=manhattan",
        "augmentation.train=[{_target_: albumentations.Rotate}]",
        "+postprocess.radius=1",
    ],
)
def test_a_mistake_that_needs_no_data_is_told_before_any_is_read(
    tiny, results, monkeypatch, override
):
    monkeypatch.setattr(experiment, "open_data", None)
    with pytest.raises(ConfigError, match=override.lstrip("+").split(".")[0]):
        experiment.run(tiny("loss=dist", override))
    assert not list(results.glob("drafts/*"))


def test_a_choice_from_elsewhere_is_not_called_one_of_ours(tiny, read):
    with pytest.raises(ConfigError, match=r"configs/optimizer/adamw\.yaml.*optimizer\.lr=abc"):
        experiment.run(tiny("optimizer.lr=abc"))
    settings = tiny("optimizer.lr=abc")
    settings.choices["optimizer"] = "theirs"
    with pytest.raises(ConfigError, match=r"^optimizer=theirs: the optimizer fails"):
        experiment.run(settings)
    with pytest.raises(ConfigError, match=r"metrics\.further=ba: must be a list: .*=\[ba\]"):
        read("metrics.further=ba")
