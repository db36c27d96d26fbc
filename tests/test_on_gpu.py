"""A run on a GPU: here what can be told without one; with the mark `gpu`, on one, the rest."""

import os
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from lightning.pytorch.trainer.connectors.accelerator_connector import _AcceleratorConnector
from torch import nn

from seglab import checkpoint, config, experiment, record
from seglab.data import module
from seglab.engine import Engine
from seglab.feed import Feed, local_rank, open_data
from seglab.launchers import sweep
from seglab.metrics import Meter
from tests.conftest import TINY
from tests.test_bench import content, run_bench
from tests.test_training import cut_at
from tests.triton_tools import no_waiting


def feed_of(settings):
    experiment.quieten()
    return Feed(settings, open_data(settings, main=True), on_gpu=True, main=True)


def epochs_of(folder):
    return pd.read_csv(folder / "epochs.csv")


# Here ------------------------------------------------------------------------------------------


def kept(settings, monkeypatch, free=1 << 30):
    """Which splits would be kept in the memory of a GPU that has so many bytes free."""
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (free, 1 << 40))
    monkeypatch.setattr(Feed, "place", torch.device("cpu"))
    feed = feed_of(settings)
    loaders = feed.loaders(config.build(settings, "loss"))
    names = {name for name in loaders if isinstance(loaders[name], module.Resident)}
    assert feed.resident_bytes == sum(loaders[name].nbytes for name in names)
    return names


ALL = {"train", "val", "test"}


@pytest.mark.parametrize("cut", [(), ("trainer.max_images=2",)], ids=["whole", "cut"])
def test_a_split_stays_on_the_gpu_by_itself_where_it_is_prepared(tiny, monkeypatch, cut):
    assert kept(tiny(*cut), monkeypatch) == ALL
    assert kept(tiny(*cut, "data.on_device=no"), monkeypatch) == set()
    elsewhere = f"cache_dir='{tiny().cache_dir / 'empty'}'"
    unprepared = (*cut, elsewhere, "data.prepare=no")
    assert kept(tiny(*unprepared), monkeypatch) == set()
    assert kept(tiny(*unprepared, "data.on_device=yes"), monkeypatch) == ALL


def test_a_split_stays_on_the_gpu_by_itself_where_it_fits(tiny, monkeypatch):
    image = 32 * 32 * (3 + 1) + 8
    assert kept(tiny("loss=ce"), monkeypatch, free=21 * image) == ALL
    assert kept(tiny("loss=ce"), monkeypatch, free=19 * image) == {"val", "test"}
    assert kept(tiny("loss=dist"), monkeypatch, free=21 * image) == {"test"}  # its planes, too
    drawn = tiny("loss=ce", "augmentation=flips")
    assert kept(drawn, monkeypatch) == {"val", "test"}


SRUN = {
    "SLURM_NTASKS": "8", "SLURM_NTASKS_PER_NODE": "4", "SLURM_PROCID": "7", "SLURM_LOCALID": "3",
    "SLURM_JOB_NAME": "train", "SLURM_JOB_ID": "1",
}  # fmt: skip
TORCHRUN = {"TORCHELASTIC_RUN_ID": "a", "LOCAL_RANK": "1", "RANK": "1", "WORLD_SIZE": "2"}


@pytest.mark.parametrize(
    ("said", "number"),
    [
        pytest.param({}, 0, id="alone"),
        pytest.param({"LOCAL_RANK": "2"}, 2, id="Lightning"),
        pytest.param(TORCHRUN, 1, id="torchrun"),
        pytest.param(SRUN, 3, id="srun"),
        pytest.param({**SRUN, **TORCHRUN}, 1, id="torchrun within srun"),
        pytest.param({**SRUN, "SLURM_JOB_NAME": "bash"}, 0, id="a shell of SLURM's"),
        pytest.param({**SRUN, "SLURM_JOB_NAME": "bash", "LOCAL_RANK": "2"}, 2, id="from a shell"),
    ],
)
def test_a_process_takes_the_gpu_that_lightning_gives_it(monkeypatch, said, number):
    for name in SRUN.keys() | TORCHRUN.keys():
        monkeypatch.delenv(name, raising=False)
    for name, value in said.items():
        monkeypatch.setenv(name, value)
    connector = SimpleNamespace(_cluster_environment_flag=None)
    theirs = _AcceleratorConnector._choose_and_init_cluster_environment(connector)
    assert local_rank() == theirs.local_rank() == number


def test_a_job_of_a_sweep_on_slurm_is_alone_however_slurm_numbers_its_task(monkeypatch):
    for name, value in SRUN.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(os, "environ", sweep.environment())
    assert os.environ["SLURM_LOCALID"] == "3"
    assert local_rank() == 0


def test_a_compiled_network_trains_like_another(tiny, monkeypatch):
    """On any device; without the compiler that writes C or Triton, which takes minutes."""
    untouched, compiled = nn.Module.compile, []

    def quickly(self):
        compiled.append(self)
        untouched(self, backend="aot_eager")

    monkeypatch.setattr(nn.Module, "compile", quickly)
    small = ("loss=ce", "model=vanilla_unet", "encoder=none", "model.channels=[4]",
             "trainer.epochs=1", "dataset.images={train: 6, val: 2, test: 2}")  # fmt: skip
    plain, other = (
        experiment.run(tiny(*small, f"trainer.compile={wanted}")) for wanted in ("false", "true")
    )
    torch.compiler.reset()
    assert [type(network).__name__ for network in compiled] == ["UNet"]
    np.testing.assert_allclose(*(epochs_of(run)["loss"] for run in (plain, other)), rtol=1e-4)
    weights = [checkpoint.load_weights(run / "weights.safetensors") for run in (plain, other)]
    assert weights[0].keys() == weights[1].keys()
    for name, values in weights[0].items():
        torch.testing.assert_close(weights[1][name], values, rtol=1e-3, atol=1e-4)


# On a GPU --------------------------------------------------------------------------------------


@pytest.fixture
def on_gpu(read):
    """`tiny`, but of trainer=gpu."""
    chosen = [override for override in TINY if override != "trainer=cpu"]
    return lambda *overrides: read(*chosen, "trainer=gpu", *overrides)


@pytest.mark.gpu
@pytest.mark.timeout(300)
def test_gpu_a_run_says_what_it_took(cuda, on_gpu):
    del cuda
    folder = experiment.run(on_gpu("loss=dist"))
    found = record.read_record(folder)
    assert found["status"] == "finished"
    assert found["precision"] == "16-mixed"
    assert found["device"]["kind"] == "cuda"
    planes = 32 * 32 * (3 + 1 + 4) + 8
    assert found["data_on_device_bytes"] == (6 + 5 + 3) * planes
    assert found["peak_memory_kind"] == "allocated on the GPU"
    assert found["peak_memory_bytes"] > 4 * found["parameters"]
    assert 0 < found["peak_memory_share"] < 1
    assert np.isfinite(epochs_of(folder)["loss"]).all()


@pytest.mark.gpu
@pytest.mark.timeout(300)
@pytest.mark.parametrize("step", [0, 4])
def test_gpu_a_run_that_was_cut_goes_on(cuda, on_gpu, results, monkeypatch, step):
    del cuda
    whole = experiment.run(on_gpu("trainer.epochs=3", f"results_dir='{results / 'whole'}'"))
    with cut_at(step, monkeypatch):
        experiment.run(on_gpu("trainer.epochs=3"))
    resumed = experiment.run(on_gpu("trainer.epochs=3"))
    assert resumed.name == whole.name
    ours, theirs = epochs_of(resumed), epochs_of(whole)
    assert ours["epoch"].tolist() == theirs["epoch"].tolist()
    np.testing.assert_allclose(ours["loss"], theirs["loss"], rtol=0.05)  # sums in any order


@pytest.mark.gpu
@pytest.mark.timeout(600)
def test_gpu_a_compiled_network_trains_like_another(cuda, on_gpu):
    del cuda
    runs = [experiment.run(on_gpu(f"trainer.compile={wanted}")) for wanted in ("false", "true")]
    np.testing.assert_allclose(*(epochs_of(run)["loss"] for run in runs), rtol=0.05)


@pytest.mark.gpu
@pytest.mark.parametrize("loss", ["dist", "ce", "dice_focal", "boundary"])
def test_gpu_no_training_step_waits_for_the_gpu(cuda, on_gpu, loss):
    """From the batch to the gradient, with the counts; the first batch brings the epoch's order."""
    settings = on_gpu(f"loss={loss}", "dataset.images={train: 10, val: 2, test: 2}")
    engine = Engine(
        config.build(settings, "model", classes=3),
        config.build(settings, "loss"),
        config.build(settings, "optimizer", _partial_=True),
        Meter(3, [0.02, 0.005]),
        settings.dataset.mean,
        settings.dataset.std,
        settings.seed,
    ).to(cuda)
    loader = feed_of(settings).loaders(engine.loss)["train"]
    assert isinstance(loader, module.Resident)

    def take(batch, step):
        engine.on_train_batch_start(batch, step)
        with torch.autocast("cuda", torch.float16):
            value = engine.training_step(batch, step)
        value.backward()

    batches = iter(loader)
    for step in range(2):  # compiles, and chooses algorithms
        take(next(batches), step)
    torch.cuda.synchronize()
    with no_waiting():
        for step, batch in enumerate(batches, 2):
            take(batch, step)
    assert engine.train_images == 10


@pytest.mark.gpu
def test_gpu_a_resident_split_gives_the_same_batches(cuda, tiny):
    images = feed_of(tiny()).images("train")
    batches = module.TrainBatches(len(images), 2, 42)
    here = module.Resident(images, batches, torch.device("cpu"))
    for ours, theirs in zip(module.Resident(images, batches, cuda), here, strict=True):
        assert all(torch.equal(ours[name].cpu(), theirs[name]) for name in theirs)


@pytest.mark.gpu
@pytest.mark.parametrize("classes", [1, 3, 19])
@pytest.mark.parametrize("shape", [(4, 70, 90), (2, 9, 30, 40)], ids=["images", "volumes"])
def test_gpu_counts_are_those_of_the_cpu(cuda, classes, shape):
    generator = torch.Generator().manual_seed(0)
    predicted, target = (
        torch.randint(0, max(classes, 2), shape, generator=generator) for _ in range(2)
    )
    target[:, :5] = 255
    predicted[:1], target[:1] = 0, 0  # one label alone
    meter = Meter(classes, [0.02, 0.005, 0.1])
    there = predicted.to(cuda), target.to(cuda)
    torch.use_deterministic_algorithms(mode=True)
    try:
        with no_waiting():
            found = meter.counts(*there)
    finally:
        torch.use_deterministic_algorithms(mode=False)
    assert torch.equal(found.cpu(), meter.counts(predicted, target))


@pytest.mark.gpu
@pytest.mark.timeout(600)
def test_gpu_the_bench_measures_every_section(cuda, tmp_path):
    del cuda
    sections = "loss,distance,boundary,step,train"
    options = ("--device", "cuda", "--tiny", "--results", str(tmp_path))
    done = run_bench(*options, "--only", sections)
    assert done.returncode == 0, done.stdout + done.stderr
    written = content(tmp_path)["sections"]
    assert set(written) == set(sections.split(","))
    assert all(row["ours"]["median_ms"] > 0 for part in written.values() for row in part["rows"])
