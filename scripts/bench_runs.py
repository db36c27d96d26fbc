"""The sections of scripts/bench.py that run whole programs: train.py, its baseline, the tables."""

import contextlib
import itertools
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory, TemporaryFile
from typing import Any

import numpy as np
import pandas as pd
import torch
from bench_measure import (
    HERE,
    KEEPS_MEMORY,
    THREADS,
    Contender,
    Group,
    Known,
    Line,
    Missing,
    Target,
    timed,
)
from bench_sections import CLASSES, Sizes, engine_for
from PIL import Image

from seglab import config, experiment, record
from seglab.ops import predicted_labels

ROOT = HERE.parent

# The thesis's grid: six losses times six networks on two data sets, 60 epochs each, every epoch
# with an evaluation of the validation images. Name, channels, height = width, images of train, val.
GRID_LOSSES = 6
GRID_NETWORKS = tuple(
    itertools.product(("Unet", "DeepLabV3Plus"), ("resnet34", "resnet50", "mobilenet_v2"))
)
GRID_EPOCHS = 60
GRID_BATCH = 32
GRID_DATA = (("celebamask_hq", 1, 256, 23200, 5800), ("cityscapes", 19, 512, 2975, 500))
GRID_HOURS = 8.0

STEPS_ON_CUDA = 32  # of an epoch, at least: what begins and ends one must not weigh


# ---------------------------------------------------------------- train


def training(sizes: Sizes, device: str) -> Group:
    """Images per second of train.py, of its network and loss alone, and of the textbook script.

    The three take turns. The first epoch of either script warms up and does not count; the bare
    loop has two steps to warm up.
    """
    with TemporaryDirectory(prefix="seglab-bench-") as made:
        folder = Path(made)
        overrides = _overrides(sizes, device, folder / "results")
        settings = config.read(*config.compose(overrides))
        source = config.build(settings, "dataset")
        pngs = _as_png(source, folder / "png", sizes.train_images)
        steps = _train_images(sizes, device) // _train_batch(sizes, device)
        measured: dict[str, list[float]] = {"train.py": [], "bare loop": [], "textbook script": []}
        precision = ""
        for _ in range(sizes.train_rounds):
            measured["bare loop"] += _bare(settings, source, device, steps)
            seconds, precision = _train_py(overrides, folder / "results")
            measured["train.py"] += seconds
            if sizes.train_textbook:
                speeds = _textbook(pngs, sizes, device, folder / "speeds.json")
                measured["textbook script"] += speeds
            shutil.rmtree(folder / "results")
    known: dict[str, Contender] = {
        name: Known(tuple(seconds)) if seconds else Missing("left out by --quick")
        for name, seconds in measured.items()
    }
    shape = _train_shape(sizes, device)
    what = (
        f"training, U-Net/{sizes.encoder}, batch {_train_batch(sizes, device)}, {shape[0]} x "
        f"{shape[1]}, {CLASSES} classes, dist"
    )
    return Group(
        known,
        [
            Line(what, "train.py", "bare loop", (Target("speed", 0.95),)),
            Line(what, "train.py", "textbook script"),
        ],
        item="image",
        judged=sizes.judged,
        notes=[
            f"Training: train.py and the bare loop in {precision}; the bare loop repeats forward, "
            "loss (its distance map given), backward and update on one batch that is there. "
            f"An epoch of both has {steps} steps."
        ],
    )


def _train_shape(sizes: Sizes, device: str) -> tuple[int, int]:
    large = device == "cuda" and sizes.judged
    return (512, 512) if large else sizes.train_shape


def _train_batch(sizes: Sizes, device: str) -> int:
    return 32 if device == "cuda" and sizes.judged else sizes.train_batch


def _train_images(sizes: Sizes, device: str) -> int:
    """What train.py trains on. The textbook script, which is slow, has `sizes.train_images`."""
    if device == "cuda" and sizes.judged:
        return max(sizes.train_images, STEPS_ON_CUDA * _train_batch(sizes, device))
    return sizes.train_images


def _overrides(sizes: Sizes, device: str, results: Path) -> list[str]:
    height, width = _train_shape(sizes, device)
    images = _train_images(sizes, device)
    few = max(2, images // 16)
    return [
        "dataset=shapes", f"dataset.num_classes={CLASSES}", f"dataset.height={height}",
        f"dataset.width={width}", f"dataset.images={{train: {images}, val: {few}, test: 2}}",
        "data.prepare=yes",  # so many images are not prepared by themselves
        "model=unet", f"encoder={sizes.encoder}", "encoder.weights=null", "loss=dist",
        f"trainer={'gpu' if device == 'cuda' else 'cpu'}", "trainer.precision=auto",
        f"trainer.epochs={sizes.train_epochs}", f"trainer.batch_size={_train_batch(sizes, device)}",
        "logger=none", f"results_dir='{results}'",
    ]  # fmt: skip


def _as_users_have_it() -> dict[str, str]:
    """The environment without the allocator's settings: train.py sees to them itself."""
    return {key: value for key, value in os.environ.items() if key not in KEEPS_MEMORY}


def _train_py(overrides: list[str], results: Path) -> tuple[list[float], str]:
    """Seconds per training image of each epoch but the first, and the precision."""
    _run([sys.executable, str(ROOT / "train.py"), *overrides])
    (folder,) = (results / "runs").iterdir()
    rows = pd.read_csv(folder / "epochs.csv").query("split == 'train' and epoch > 1")
    precision = record.read_record(folder)["precision"]
    return (1 / rows["images_per_second"]).tolist(), precision


def _textbook(pngs: Path, sizes: Sizes, device: str, answer: Path) -> list[float]:
    _run([
        sys.executable, str(HERE / "textbook_train.py"), f"--images={pngs / 'images'}",
        f"--masks={pngs / 'masks'}", f"--classes={CLASSES}", f"--encoder={sizes.encoder}",
        f"--size={max(_train_shape(sizes, device))}", f"--epochs={sizes.train_epochs}",
        f"--batch-size={_train_batch(sizes, device)}", f"--device={device}", "--loss=dist",
        f"--workers={min(8, os.cpu_count() or 1) if device == 'cuda' else 0}", f"--json={answer}",
    ])  # fmt: skip
    return [1 / speed for speed in json.loads(answer.read_text())["images_per_second"][1:]]


def _run(command: list[str]) -> None:
    """Errors: RuntimeError with the end of what the program said."""
    done = subprocess.run(
        command, cwd=ROOT, env=_as_users_have_it(), capture_output=True, text=True, check=False
    )
    if done.returncode:
        said = (done.stdout + done.stderr)[-2000:]
        raise RuntimeError(f"{Path(command[1]).name} ended with {done.returncode}:\n{said}")


def _as_png(source: Any, folder: Path, images: int) -> Path:
    """The first images of the training split as two folders of PNG files."""
    for kind in ("images", "masks"):
        (folder / kind).mkdir(parents=True)
    for sample in source.samples("train")[:images]:
        name = f"{sample.id}.png"
        Image.fromarray(source.read_image(sample)).save(folder / "images" / name)
        Image.fromarray(source.read_mask(sample)).save(folder / "masks" / name)
    return folder


def _bare(settings: config.Settings, source: Any, device: str, steps: int) -> list[float]:
    """Seconds per image of the network, the loss and the update on one fixed batch."""
    torch.manual_seed(settings.seed)
    engine = engine_for(settings, source.num_classes, device).train()
    optimizer = engine.configure_optimizers()
    samples = source.samples("train")[: settings.trainer.batch_size]
    pairs = [(source.read_image(sample), source.read_mask(sample)) for sample in samples]
    planes = _planes(engine.loss, [mask for _, mask in pairs])
    truth = [torch.from_numpy(np.stack([mask for _, mask in pairs])).long(), *planes]
    image = torch.from_numpy(np.stack([image.transpose(2, 0, 1) for image, _ in pairs]))
    image, truth = image.to(device), [each.to(device) for each in truth]
    precision = experiment.choose_device(settings).precision
    dtype = {"16-mixed": torch.float16, "bf16-mixed": torch.bfloat16, "32": torch.float32}
    scaler = torch.amp.GradScaler(device, enabled=precision == "16-mixed")

    def step() -> None:
        optimizer.zero_grad()
        with torch.autocast(device, dtype[precision], enabled=precision != "32"):
            loss = engine.loss(engine(image), *truth)
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()

    def epoch() -> None:
        for _ in range(steps):
            step()
        if device == "cuda":
            torch.cuda.synchronize()

    for _ in range(2):
        step()
    start = time.perf_counter()
    epoch()
    return [(time.perf_counter() - start) / (steps * len(pairs))]


def _planes(loss: Any, masks: list[np.ndarray]) -> list[torch.Tensor]:
    """The weights that train.py's data carries along, where the loss has such."""
    if not hasattr(loss, "plane"):
        return []
    return [torch.from_numpy(np.stack([loss.plane(mask) for mask in masks]))]


# ---------------------------------------------------------------- the thesis's grid


def thesis_hours(share_of_bare: float) -> dict[str, Any]:
    """What both grids would take on this GPU, from the speed of each network at batch 32.

    Args:
        share_of_bare: train.py's images per second as a share of the bare loop's.
    """
    hours, rows = 0.0, []
    for name, classes, side, train, val in GRID_DATA:
        for architecture, encoder in GRID_NETWORKS:
            fit, judge = _network_speed(architecture, encoder, classes, side)
            spent = GRID_EPOCHS * (train * fit + val * judge) / share_of_bare / 3600
            hours += GRID_LOSSES * spent
            rows.append(
                {
                    "network": f"{architecture}/{encoder}",
                    "dataset": name,
                    "images_per_second": 1 / fit,
                    "evaluated_per_second": 1 / judge,
                    "hours_of_a_run": spent,
                }
            )
    met = hours <= GRID_HOURS
    runs = GRID_LOSSES * len(rows)
    return {"hours": hours, "goal_hours": GRID_HOURS, "met": met, "runs": runs, "networks": rows}


def _network_speed(architecture: str, encoder: str, classes: int, side: int) -> tuple[float, float]:
    """Seconds per image of training and of evaluation, half precision, loss=dist, on the GPU."""
    settings = config.read(
        *config.compose(
            ["dataset=shapes", "model=smp", f"model.architecture={architecture}",
             f"encoder={encoder}", "encoder.weights=null", "loss=dist", "trainer=gpu"]
        )
    )  # fmt: skip
    engine = engine_for(settings, classes, "cuda").train()
    optimizer = engine.configure_optimizers()
    image = torch.randint(0, 256, (GRID_BATCH, 3, side, side), dtype=torch.uint8, device="cuda")
    target = torch.randint(0, max(classes, 2), (GRID_BATCH, side // 16, side // 16), device="cuda")
    target = target.repeat_interleave(16, 1).repeat_interleave(16, 2)
    weights = torch.rand(target.shape, device="cuda")
    scaler = torch.amp.GradScaler("cuda")

    def fit() -> None:
        optimizer.zero_grad()
        with torch.autocast("cuda", torch.float16):
            loss = engine.loss(engine(image), target, weights)
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()

    def judge() -> None:
        with torch.no_grad(), torch.autocast("cuda", torch.float16):
            logits = engine(image)
            engine.meter.counts(predicted_labels(logits), target)

    for _ in range(5):
        fit()
    fitted = timed({"fit": fit}, 5, "cuda")["fit"]
    engine.eval()
    judged = timed({"judge": judge}, 5, "cuda")["judge"]
    return float(np.median(fitted)) / GRID_BATCH, float(np.median(judged)) / GRID_BATCH


# ---------------------------------------------------------------- store


STORE_RUNS = 1000  # the targets speak of so many runs of 500 images, 19 classes, two widths
STORE_SECONDS = 60.0
STORE_GIB = 4.0
STORE_LOSSES = ("ce", "iou", "dice", "combo", "dice_focal", "dist")
STORE_NETWORKS = tuple(
    itertools.product(("unet", "deeplabv3plus"), ("resnet34", "resnet50", "mobilenet_v2"))
)


def tables(sizes: Sizes, device: str) -> Group:
    """scripts/tables.py and then status.py over made runs, each as long as Cityscapes' validation.

    Each runs once, as users have it: with all cores, and memory that goes back to the system.
    """
    del device
    with _made_runs(sizes) as results:
        ours = [
            _measured_child([str(ROOT / "scripts" / "tables.py"), "--results", str(results)]),
            _measured_child([str(ROOT / "scripts" / "status.py"), f"results_dir={results}"]),
        ]
    imports, _ = _measured_child(["-c", "import pandas, pyarrow.parquet, torch"])
    name, other = "tables.py and status.py", "importing pandas and torch"
    contenders: dict[str, Contender] = {
        name: Known((sum(seconds for seconds, _ in ours),), max(peak for _, peak in ours)),
        other: Known((imports,)),
    }
    what = f"every table, and the status, of {sizes.runs} runs of {sizes.run_images} images"
    targets = (Target("ms", 1000 * STORE_SECONDS), Target("gib", STORE_GIB))
    judged = sizes.judged and sizes.runs >= STORE_RUNS
    return Group(contenders, [Line(what, name, other, targets)], judged=judged)


def _measured_child(arguments: list[str]) -> tuple[float, int]:
    """Seconds and peak resident bytes of one Python process. Errors: RuntimeError if it fails."""
    environment = {k: v for k, v in _as_users_have_it().items() if k not in THREADS}
    start = time.perf_counter()
    with TemporaryFile() as said:
        child = subprocess.Popen(
            [sys.executable, *arguments], cwd=ROOT, env=environment, stdout=said, stderr=said
        )
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        seconds = time.perf_counter() - start
        if child.returncode:
            said.seek(0)
            raise RuntimeError(
                f"{arguments[0]} ended with {child.returncode}:\n{said.read().decode()[-2000:]}"
            )
    return seconds, 1024 * usage.ru_maxrss


@contextlib.contextmanager
def _made_runs(sizes: Sizes) -> Iterator[Path]:
    """A results folder with the finished runs of a grid that nobody trained.

    The seeds of a cell share one file of counts by hard links: making a thousand takes a minute.
    """
    grid = list(itertools.product(STORE_NETWORKS, STORE_LOSSES))
    overrides = ["dataset=shapes", "encoder.weights=null", "trainer=cpu"]
    tree, code = config.read(*config.compose(overrides)).tree, record.code_in_use()
    with TemporaryDirectory(prefix="seglab-bench-") as made:
        first: dict[int, Path] = {}
        for number in range(sizes.runs):
            seed, cell = divmod(number, len(grid))
            (model, encoder), loss = grid[cell]
            choices = {"dataset": "shapes", "model": model, "encoder": encoder, "loss": loss}
            own = {**tree, "seed": seed, "encoder": {**tree["encoder"], "name": encoder}}
            science = record.science(own, {"epochs": 60}, None, "made")
            id_ = record.run_id(choices, encoder, seed, f"{number:012x}")
            folder = record.RunFolder(Path(made), id_)
            folder.open_draft()
            if cell in first:
                os.link(first[cell] / "images.parquet", folder.draft / "images.parquet")
            else:
                record.write_images(folder.draft, _made_counts(sizes.run_images, number))
                first[cell] = folder.final
            epochs = [
                {"epoch": e + 1, "split": s, "loss": 1 / (e + 1), "biou": e / 60, "seconds": 1.0,
                 "images_per_second": 10.0, "peak_memory_bytes": 1, "peak_memory_share": 0.1}
                for e in range(60) for s in ("train", "val")
            ]  # fmt: skip
            record.write_epochs(folder.draft, epochs)
            record.write_record(
                folder.draft,
                {
                    "schema": record.SCHEMA, "run_id": id_, "hash": f"{number:012x}",
                    "status": "finished", "reason": None, "science": science, "choices": choices,
                    "seed": seed, "epochs": 60, "best_epoch": 60, "train_seconds": 60.0,
                    "peak_memory_bytes": 1, "peak_memory_kind": "resident",
                    "code": code, "files": record.digests(folder.draft),
                    "device": {"kind": "cpu", "name": "made", "count": 1},
                    "seconds": {"setup": 1.0, "fit": 60.0, "evaluate": 1.0, "record": 1.0},
                    "dataset": {"classes": [], "test_split": "test"},
                },
            )  # fmt: skip
            folder.publish()
        yield Path(made)


def _made_counts(images: int, seed: int) -> pd.DataFrame:
    """Both checkpoints on two splits of so many images, 19 classes, two widths."""
    counts = np.random.default_rng(seed).integers(0, 4000, (images, CLASSES, 3, 3))
    ids = [f"made_{number:06d}" for number in range(images)]
    return pd.concat(
        experiment.counts_table(name, split, ids, counts, [0.02, 0.005], [14, 4])
        for name in experiment.CHECKPOINTS
        for split in ("val", "test")
    )


GROUPS: dict[str, list[Callable[[Sizes, str], Group]]] = {"train": [training], "store": [tables]}
