"""The sections of scripts/bench.py that need no training run: one function for each group of rows.

A group's contenders are measured in turns. As a program, this file is the fresh process in which
peak memory is measured: bench_sections.py SECTION GROUP SCALE THREADS.
"""

import json
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import segmentation_models_pytorch as smp
import textbook_train
import torch
import torch.nn.functional as F
from bench_measure import (
    Contender,
    Group,
    Known,
    Line,
    Missing,
    Target,
    copy_bandwidth,
    peaks_in_children,
)
from bench_peers import (
    calling,
    face,
    imported,
    label_map,
    reference_boundary_counts,
    scipy_per_class,
    scipy_present_classes,
    shifted,
)
from PIL import Image
from torch import Tensor, nn

from seglab import config
from seglab.data import cache, check, module
from seglab.data.cityscapes import LABEL_IDS, Cityscapes, train_ids
from seglab.data.preprocess import Preprocess
from seglab.distance import chessboard_map, squared_euclidean, squared_euclidean_map
from seglab.engine import Engine
from seglab.metrics import Meter, boundary_counts, boundary_width, surface
from seglab.ops import IGNORE

CLASSES = 19
GPU_MEMORY_LEFT = 0.85  # of the smp Dice loss's, at most


@dataclass(frozen=True)
class Sizes:
    """How large, how often. The targets speak of the full sizes.

    The quick ones have fewer images, which changes no ratio by much, and are judged too.
    """

    rounds: int
    images: int = 4
    side: int = 512
    faces: int = 8
    face_side: int = 256
    wide: tuple[int, int] | None = (1024, 2048)
    surface_sides: tuple[int, ...] = (256, 512)
    surface_pairs: int = 8
    photo: tuple[int, int] = (1024, 2048)
    photos: int = 8
    photo_size: int = 512
    step_images: int = 4
    step_side: int = 256
    step_rounds: int = 5
    train_rounds: int = 3
    train_images: int = 128
    train_epochs: int = 3
    train_shape: tuple[int, int] = (96, 128)
    train_batch: int = 8
    train_textbook: bool = True
    encoder: str = "resnet34"
    runs: int = 1008  # 28 seeds of a grid of 36
    run_images: int = 500
    judged: bool = True
    memory: tuple[str, ...] | None = None  # the contenders whose peak is measured; None: all


SCALES = {
    "full": Sizes(rounds=9),
    "quick": Sizes(
        rounds=3, images=2, wide=None, surface_pairs=4, photos=2, step_images=2, step_side=192,
        step_rounds=3, train_rounds=1, train_images=32, train_epochs=2, runs=18,
        train_textbook=False,
        memory=("dist, map given", "smp Dice"),
    ),
    "tiny": Sizes(
        rounds=2, images=1, side=48, faces=2, face_side=32, wide=(48, 64), surface_sides=(32,),
        surface_pairs=2, photo=(64, 128), photos=2, photo_size=64, step_images=2, step_side=32,
        step_rounds=2, train_rounds=1, train_images=4, train_epochs=2, train_shape=(32, 32),
        train_batch=2, encoder="mobilenet_v2", runs=3, run_images=4, judged=False,
        memory=("dist, map given", "smp Dice"),
    ),
}  # fmt: skip


# ---------------------------------------------------------------- loss


@lru_cache
def our_loss(name: str) -> nn.Module:
    """loss=<name> as train.py builds it."""
    return config.build(config.read(*config.compose([f"loss={name}", "dataset=shapes"])), "loss")


def backward_of(loss: Callable[..., Tensor], logits: Tensor, *truth: Tensor) -> Contender:
    """Forward, and backward to the logits."""

    def call() -> None:
        logits.grad = None
        value = loss(logits, *truth)
        value.backward()

    return call


def multiclass_losses(sizes: Sizes, device: str) -> Group:
    """19 classes: every loss of the thesis against the library's, and `dist` against paper."""
    on_gpu = device == "cuda"
    batch = 32 if on_gpu and sizes.judged else sizes.images
    dtype = torch.float16 if on_gpu else torch.float32
    torch.manual_seed(0)
    maps = [label_map(seed, sizes.side, sizes.side, CLASSES) for seed in range(min(batch, 8))]
    labels = np.stack([maps[i % len(maps)] for i in range(batch)])
    target = torch.from_numpy(labels).long().to(device)
    shape = (batch, CLASSES, sizes.side, sizes.side)
    logits = torch.randn(shape, device=device, dtype=dtype).requires_grad_()
    known = target.masked_fill(target == IGNORE, 0)  # smp's Jaccard cannot ignore
    dist = our_loss("dist")
    weights = torch.from_numpy(np.stack([dist.plane(image) for image in labels])).to(device)
    jaccard = smp.losses.JaccardLoss("multiclass")
    dice = smp.losses.DiceLoss("multiclass", ignore_index=IGNORE)
    focal = smp.losses.FocalLoss("multiclass", gamma=2.0, ignore_index=IGNORE)

    def cross_entropy(z: Tensor, y: Tensor) -> Tensor:
        return F.cross_entropy(z, y, ignore_index=IGNORE)

    contenders: dict[str, Contender] = {
        "dist, map given": backward_of(dist, logits, target, weights),
        "dist": backward_of(dist, logits, target),
        **{
            name: backward_of(our_loss(name), logits, target)
            for name in ("dice", "iou", "combo", "focal", "dice_focal", "ce")
        },
        "smp Dice": backward_of(dice, logits, target),
        "smp Jaccard": backward_of(jaccard, logits, known),
        "smp Focal": backward_of(focal, logits, target),
        "smp Dice + torch CE": backward_of(
            lambda z, y: dice(z, y) + cross_entropy(z, y), logits, target
        ),
        "smp Dice + smp Focal": backward_of(lambda z, y: dice(z, y) + focal(z, y), logits, target),
        "torch CE": backward_of(cross_entropy, logits, target),
    }
    textbook = textbook_train.DistLoss()
    if on_gpu:
        contenders |= _gpu_floor(logits, target, weights)
    else:
        contenders["softmax"] = _softmax_floor(logits)
        contenders["textbook"] = backward_of(textbook, logits, target)
    floor = "bytes / bandwidth" if on_gpu else "softmax"
    peaks = () if on_gpu else (Target("units", 3.0), Target("units", 1.3))
    if on_gpu:
        lines = [
            Line("dist, map given", "dist, map given", "smp Dice",
                 (Target("ms", 1.0), Target("units", 1.1))),
            Line("dist with its distances", "dist", "smp Dice"),
        ]  # fmt: skip
    else:
        lines = [
            Line("dist, map given", "dist, map given", "smp Dice", (Target("time", 0.40), *peaks)),
            Line("dist, map given", "dist, map given", "softmax", (Target("time", 3.0),)),
            Line("dist with its distances", "dist", "smp Dice", (Target("time", 0.55), *peaks)),
            Line("dist with its distances", "dist", "textbook",
                 (Target("speed", 6.0), Target("difference", 1e-5)),
                 lambda: abs(float(dist(logits, target)) - float(textbook(logits, target)))),
        ]  # fmt: skip
    limit = () if on_gpu else (Target("time", 0.45), *peaks)
    lines += [
        Line(ours, ours, peer, limit)
        for ours, peer in (
            ("dice", "smp Dice"),
            ("iou", "smp Jaccard"),
            ("combo", "smp Dice + torch CE"),
            ("focal", "smp Focal"),
            ("dice_focal", "smp Dice + smp Focal"),
        )
    ]
    lines.append(Line("ce", "ce", "torch CE"))

    def forget() -> None:
        logits.grad = None

    size = " x ".join(map(str, shape))
    return Group(
        contenders,
        lines,
        floor=floor,
        forget=forget,
        unit_bytes=logits.nbytes,
        judged=sizes.judged,
        notes=[
            f"19 classes: {size}, {str(dtype).removeprefix('torch.')}, forward and backward; "
            f"the floor is {floor}; a unit of memory is the logits, "
            f"{logits.nbytes / 2**20:.0f} MiB."
        ],
    )


def _softmax_floor(logits: Tensor) -> Contender:
    """Softmax, and its backward from a gradient that is there."""
    given = torch.ones_like(logits)

    def call() -> None:
        logits.grad = None
        torch.autograd.backward(logits.softmax(dim=1), given)

    return call


def _gpu_floor(logits: Tensor, target: Tensor, weights: Tensor) -> dict[str, Contender]:
    """Reading the logits and the truth twice, writing the gradient once."""
    moved = 3 * logits.nbytes + 2 * (target.numel() + weights.nbytes)
    return {"bytes / bandwidth": Known((moved / copy_bandwidth("cuda"),))}


def binary_losses(sizes: Sizes, device: str) -> Group:
    """Faces: one channel, distances included."""
    torch.manual_seed(0)
    labels = np.stack([face(seed, sizes.face_side) for seed in range(sizes.faces)])
    target = torch.from_numpy(labels).long().to(device)
    shape = (sizes.faces, 1, sizes.face_side, sizes.face_side)
    logits = torch.randn(shape, device=device).requires_grad_()
    dist, textbook = our_loss("dist"), textbook_train.DistLoss()
    dice = smp.losses.DiceLoss("binary", ignore_index=IGNORE)
    weights = torch.from_numpy(np.stack([dist.plane(image) for image in labels])).to(device)
    given = torch.ones_like(logits)

    def sigmoid() -> None:
        logits.grad = None
        torch.autograd.backward(logits.sigmoid(), given)

    contenders = {
        "dist, map given": backward_of(dist, logits, target, weights),
        "dist": backward_of(dist, logits, target),
        "smp Dice": backward_of(dice, logits, target),
        "textbook": backward_of(textbook, logits, target),
        "sigmoid": sigmoid,
    }
    on_gpu = device == "cuda"
    lines = [
        Line("binary dist, map given", "dist, map given", "smp Dice"),
        Line("binary dist with its distances", "dist", "smp Dice",
             () if on_gpu else (Target("time", 1.2),)),
        Line("binary dist with its distances", "dist", "textbook",
             (Target("difference", 1e-5),) if on_gpu
             else (Target("speed", 3.0), Target("difference", 1e-5)),
             lambda: abs(float(dist(logits, target)) - float(textbook(logits, target)))),
    ]  # fmt: skip

    def forget() -> None:
        logits.grad = None

    return Group(
        contenders,
        lines,
        floor="sigmoid",
        forget=forget,
        unit_bytes=logits.nbytes,
        judged=sizes.judged,
        notes=[
            f"Binary: {' x '.join(map(str, shape))}, float32; the floor is sigmoid; a unit of "
            f"memory is the logits, {logits.nbytes / 2**20:.0f} MiB."
        ],
    )


# ---------------------------------------------------------------- distance


def label_distances(sizes: Sizes, device: str) -> Group:
    """One transform for all classes against SciPy's, class by class."""
    del device
    return _label_distances(sizes, sizes.side, sizes.side, sizes.images, (Target("speed", 20.0),))


def wide_distances(sizes: Sizes, device: str) -> Group:
    """The same on a whole street scene."""
    del device
    assert sizes.wide is not None
    return _label_distances(sizes, *sizes.wide, 1, ())


def _label_distances(
    sizes: Sizes, height: int, width: int, images: int, targets: tuple[Target, ...]
) -> Group:
    maps = [label_map(seed, height, width, CLASSES) for seed in range(images)]

    def errors() -> float:
        wrong = 0
        for labels in maps:
            expected = np.rint(scipy_present_classes(labels, CLASSES) ** 2)
            found = np.where(labels == IGNORE, 0, squared_euclidean_map(labels))
            wrong += np.count_nonzero(found != expected)
        return float(wrong)

    size = f"{height} x {width}"
    contenders: dict[str, Contender] = {
        "squared_euclidean_map": lambda: [squared_euclidean_map(labels) for labels in maps],
        "chessboard_map": lambda: [chessboard_map(labels) for labels in maps],
        "SciPy per class": lambda: [scipy_per_class(labels, CLASSES) for labels in maps],
        "SciPy, classes present": lambda: [scipy_present_classes(m, CLASSES) for m in maps],
    }
    first = (*targets, Target("difference", 0))
    lines = [
        Line(
            f"{CLASSES} labels, {size}", "squared_euclidean_map", "SciPy per class", first, errors
        ),
        Line(f"{CLASSES} labels, {size}", "squared_euclidean_map", "SciPy, classes present"),
        Line(f"chessboard, {size}", "chessboard_map", "SciPy per class"),
    ]
    return Group(contenders, lines, items=images, item="image", judged=sizes.judged)


def face_distances(sizes: Sizes, device: str) -> Group:
    """Binary masks."""
    del device
    maps = [face(seed, sizes.face_side) for seed in range(sizes.faces)]
    return Group(
        {
            "squared_euclidean_map": lambda: [squared_euclidean_map(mask) for mask in maps],
            "SciPy, the foreground": lambda: [scipy_present_classes(1 - m, 1) for m in maps],
        },
        [Line(f"binary, {sizes.face_side} x {sizes.face_side}", "squared_euclidean_map",
              "SciPy, the foreground")],
        items=len(maps),
        item="image",
        judged=sizes.judged,
    )  # fmt: skip


def distances_on_gpu(sizes: Sizes, device: str) -> Group:
    """A whole batch on the GPU against the same batch on the CPU."""
    batch = 32 if sizes.judged else sizes.images
    maps = [label_map(seed, sizes.side, sizes.side, CLASSES) for seed in range(min(batch, 8))]
    labels = torch.from_numpy(np.stack([maps[i % len(maps)] for i in range(batch)]))
    there = labels.to(device)
    moved = labels.nbytes + 4 * labels.numel()

    def errors() -> float:
        return float((squared_euclidean(there).cpu() != squared_euclidean(labels)).sum())

    return Group(
        {
            "squared_euclidean": lambda: squared_euclidean(there),
            "ours on the CPU": lambda: squared_euclidean(labels),
            "bytes / bandwidth": Known((moved / copy_bandwidth(device),)),
        },
        [Line(f"a batch on the GPU, {' x '.join(map(str, labels.shape))}", "squared_euclidean",
              "ours on the CPU", (Target("ms", 2.0), Target("difference", 0)), errors)],
        floor="bytes / bandwidth",
        judged=sizes.judged,
    )  # fmt: skip


# ---------------------------------------------------------------- boundary


def boundary(sizes: Sizes, device: str) -> Group:
    """Boundary IoU counts of all classes."""
    return _boundary(sizes, sizes.side, sizes.side, sizes.images, 4.0, device)


def wide_boundary(sizes: Sizes, device: str) -> Group:
    """The same on a whole street scene."""
    assert sizes.wide is not None
    return _boundary(sizes, *sizes.wide, 1, 8.0, device)


def _boundary(
    sizes: Sizes, height: int, width: int, images: int, speed: float, device: str
) -> Group:
    target = np.stack([label_map(seed, height, width, CLASSES) for seed in range(images)])
    predicted = np.stack([shifted(labels, 3) for labels in target])
    d = boundary_width((height, width), 0.02)
    ours = [torch.from_numpy(labels).to(device) for labels in (predicted, target)]

    def reference() -> np.ndarray:
        pairs = zip(predicted, target, strict=True)
        return np.stack([reference_boundary_counts(*pair, CLASSES, d) for pair in pairs])

    def difference() -> float:
        counts = boundary_counts(*ours, CLASSES, d).cpu().numpy()
        found = np.stack([counts[..., 0], counts.sum(axis=-1)], axis=-1)
        return float(np.abs(found - reference()).sum())

    on_cpu = (Target("speed", speed), Target("difference", 0))
    targets = (Target("difference", 0),) if device == "cuda" else on_cpu
    what = f"{CLASSES} classes, {height} x {width}, d = {d}"
    return Group(
        {
            "boundary_counts": lambda: boundary_counts(*ours, CLASSES, d),
            "pad, erode, subtract per class": reference,
        },
        [Line(what, "boundary_counts", "pad, erode, subtract per class", targets, difference)],
        items=images,
        item="image",
        judged=sizes.judged,
    )


# ---------------------------------------------------------------- surface


def surfaces(side: int, speed: float) -> Callable[[Sizes, str], Group]:
    """HD95 and ASSD of masks of that size."""

    def group(sizes: Sizes, device: str) -> Group:
        del device
        return _surface(sizes, side, speed)

    return group


def _surface(sizes: Sizes, side: int, speed: float) -> Group:
    pairs = [
        (np.roll(face(seed, side), side // 80 + 1, 0) > 0, face(100 + seed, side) > 0)
        for seed in range(sizes.surface_pairs)
    ]

    def ours(definition: str) -> np.ndarray:
        found = [surface.surface_distances(*pair) for pair in pairs]
        return np.array([(surface.hd95(d, definition), surface.assd(d)) for d in found])

    def medpy(binary: Any) -> Contender:
        return lambda: np.array([(binary.hd95(*pair), binary.assd(*pair)) for pair in pairs])

    def monai(metrics: Any) -> Contender:
        batches = [[torch.from_numpy(mask)[None, None].float() for mask in pair] for pair in pairs]

        def score(p: Tensor, t: Tensor) -> tuple[float, float]:
            hd95 = metrics.compute_hausdorff_distance(p, t, include_background=True, percentile=95)
            average = metrics.compute_average_surface_distance(
                p, t, include_background=True, symmetric=True
            )
            return float(hd95), float(average)

        return lambda: np.array([score(*batch) for batch in batches])

    contenders: dict[str, Contender] = {
        "pooled": lambda: ours("pooled"),
        "max": lambda: ours("max"),
        "medpy": calling(imported("medpy.metric.binary", "medpy"), medpy),
        "MONAI": calling(imported("monai.metrics", "monai"), monai),
    }

    def difference(mine: str, theirs: str) -> Callable[[], float]:
        return lambda: float(np.abs(contenders[mine]() - contenders[theirs]()).max())

    what = f"HD95 and ASSD, {side} x {side}"
    equal = Target("difference", 1e-4)
    lines = [
        Line(f"{what}, pooled", "pooled", "medpy", (Target("speed", speed), equal),
             difference("pooled", "medpy")),
        Line(f"{what}, max", "max", "MONAI", (equal,), difference("max", "MONAI")),
    ]  # fmt: skip
    return Group(contenders, lines, items=len(pairs), item="pair", judged=sizes.judged)


# ---------------------------------------------------------------- data


def samples(sizes: Sizes, device: str) -> Group:
    """A street scene from the prepared arrays against decoding, resizing and normalising it."""
    del device
    made = tempfile.TemporaryDirectory(prefix="seglab-bench-")
    root = Path(made.name)
    images, masks = _street_scenes(root, sizes)
    source = Cityscapes(str(root), "labelIds", expected_counts=None)
    preprocess = Preprocess(sizes.photo_size, "square")

    def quiet(items: Any, *_: Any) -> Any:
        return items

    verdict = check.check(source, root / "cache", quiet)
    cache.prepare(source, preprocess, root / "cache", verdict, quiet, workers=1)
    split = cache.open_split(source, preprocess, root / "cache", verdict, "train")
    assert isinstance(split, cache.PreparedSplit), "the arrays were not found again"
    ours = module.Images(split)
    textbook = textbook_train.PngFolder(images, masks, sizes.photo_size, train_ids())
    mean, std = (
        torch.from_numpy(v)[:, None, None] for v in (textbook_train.MEAN, textbook_train.STD)
    )

    def normalised() -> list[Tensor]:
        found = (ours[index] for index in range(len(ours)))
        return [((item["image"].float() / 255) - mean) / std for item in found]

    return Group(
        {
            "prepared, normalised": normalised,
            "prepared, bytes": lambda: [ours[index] for index in range(len(ours))],
            "Pillow": lambda: [textbook[index] for index in range(len(textbook))],
        },
        [
            Line("a sample as float32, normalised", "prepared, normalised", "Pillow",
                 (Target("speed", 30.0),)),
            Line("a sample as bytes, normalised on the device", "prepared, bytes", "Pillow"),
        ],
        items=sizes.photos,
        item="sample",
        holds=made,
        judged=sizes.judged,
    )  # fmt: skip


def _street_scenes(root: Path, sizes: Sizes) -> tuple[list[Path], list[Path]]:
    """PNG files in the layout of Cityscapes, as large and about as hard to decode."""
    rng = np.random.default_rng(0)
    height, width = sizes.photo
    images, masks = [], []
    for split, count in (("train", sizes.photos), ("val", 1)):
        for number in range(count):
            stem = f"made_{number:06d}_000000"
            image, mask = (
                root / kind / split / "made" / f"{stem}_{suffix}.png"
                for kind, suffix in (("leftImg8bit", "leftImg8bit"), ("gtFine", "gtFine_labelIds"))
            )
            image.parent.mkdir(parents=True, exist_ok=True)
            mask.parent.mkdir(parents=True, exist_ok=True)
            labels = label_map(number, height, width, CLASSES)
            ids = np.zeros(256, np.uint8)
            ids[: len(LABEL_IDS)] = LABEL_IDS
            colours = rng.integers(30, 220, (256, 3)).astype(np.int16)[labels]
            texture = rng.integers(-6, 7, (height, width, 3), dtype=np.int16)
            pixels = cv2.GaussianBlur(colours, (0, 0), 2) + texture // 2
            Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(image)
            Image.fromarray(ids[labels]).save(mask)
            if split == "train":
                images.append(image)
                masks.append(mask)
    return images, masks


# ---------------------------------------------------------------- step


def network(encoder: str, device: str) -> nn.Module:
    """U-Net from random weights, in training mode."""
    torch.manual_seed(0)
    return smp.Unet(encoder, encoder_weights=None, classes=CLASSES).to(device).train()


def training_step(
    model: nn.Module,
    loss: Callable[..., Tensor],
    image: Tensor,
    truth: tuple[Tensor, ...],
    dtype: torch.dtype,
    optimizer: torch.optim.Optimizer,
) -> Contender:
    """Forward, backward and update; autocast to `dtype` unless that is float32."""
    device = image.device.type
    scaler = torch.amp.GradScaler(device, enabled=dtype == torch.float16)

    def call() -> None:
        optimizer.zero_grad()
        with torch.autocast(device, dtype, enabled=dtype != torch.float32):
            value = loss(model(image), *truth)
        scaler.scale(value).backward()
        scaler.step(optimizer)
        scaler.update()

    return call


def cpu_steps(sizes: Sizes, device: str) -> Group:
    """bfloat16 with the channels last, as train.py does it, against PyTorch's default."""
    batch, side = sizes.step_images, sizes.step_side
    image = torch.randn(batch, 3, side, side, device=device)
    labels = np.stack([label_map(seed, side, side, CLASSES) for seed in range(batch)])
    loss = our_loss("dist")
    weights = torch.from_numpy(np.stack([loss.plane(each) for each in labels]))
    truth = (torch.from_numpy(labels).long(), weights)
    plain, last = network(sizes.encoder, device), network(sizes.encoder, device)
    last = last.to(memory_format=torch.channels_last)
    image_last = image.contiguous(memory_format=torch.channels_last)
    slow = training_step(
        plain, loss, image, truth, torch.float32, torch.optim.AdamW(plain.parameters(), lr=3e-4)
    )
    fused = torch.optim.AdamW(last.parameters(), lr=3e-4, fused=True)
    fast: Contender = training_step(last, loss, image_last, truth, torch.bfloat16, fused)
    if not cpu_has_bf16():
        fast = Missing(
            f"this CPU ({torch.backends.cpu.get_cpu_capability()}) does not compute in bfloat16"
        )
    what = f"U-Net/{sizes.encoder}, {batch} x 3 x {side} x {side}, {CLASSES} classes, dist"
    return Group(
        {
            "bf16": fast,
            "float32, PyTorch's default": slow,
            "float32, channels last": training_step(
                last, loss, image_last, truth, torch.float32, fused
            ),
        },
        [
            Line(f"{what}; bf16, channels last, fused AdamW", "bf16", "float32, PyTorch's default",
                 (Target("speed", 1.6),)),
            Line(f"{what}; float32, channels last, fused AdamW", "float32, channels last",
                 "float32, PyTorch's default"),
        ],
        items=batch,
        item="image",
        judged=sizes.judged,
    )  # fmt: skip


def cpu_has_bf16() -> bool:
    """Whether this CPU has instructions for bfloat16, and oneDNN uses them."""
    if not torch.backends.mkldnn.is_available():
        return False
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def gpu_steps(sizes: Sizes, device: str) -> Group:
    """Peak memory of the same loop under every loss: half precision, batch 32, 512 x 512."""
    batch, side = (32, 512) if sizes.judged else (sizes.step_images, sizes.step_side)
    labels = np.stack([label_map(seed % 8, side, side, CLASSES) for seed in range(batch)])
    image = torch.randn(batch, 3, side, side, device=device)
    image = image.contiguous(memory_format=torch.channels_last)
    target = torch.from_numpy(labels).long().to(device)
    known = target.masked_fill(target == IGNORE, 0)
    dist = our_loss("dist")
    weights = torch.from_numpy(np.stack([dist.plane(each) for each in labels])).to(device)
    model = network(sizes.encoder, device).to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-4, fused=True)

    def step(loss: Callable[..., Tensor], *truth: Tensor) -> Contender:
        return training_step(model, loss, image, truth, torch.float16, optimizer)

    losses = smp.losses
    peers: dict[str, Contender] = {
        "smp Dice": step(losses.DiceLoss("multiclass", ignore_index=IGNORE), target),
        "smp Jaccard": step(losses.JaccardLoss("multiclass"), known),
        "smp Focal": step(losses.FocalLoss("multiclass", ignore_index=IGNORE), target),
        "smp Lovasz": step(losses.LovaszLoss("multiclass", ignore_index=IGNORE), target),
        "smp Tversky": step(losses.TverskyLoss("multiclass", ignore_index=IGNORE), target),
        "smp SoftCrossEntropy": step(
            losses.SoftCrossEntropyLoss(smooth_factor=0.0, ignore_index=IGNORE), target
        ),
        "torch CE": step(nn.CrossEntropyLoss(ignore_index=IGNORE), target),
    }
    limits = {peer: 1.0 for peer in peers if peer.startswith("smp ")}
    limits["smp Dice"] = GPU_MEMORY_LEFT
    what = f"U-Net/{sizes.encoder}, {batch} x 3 x {side} x {side}, fp16, dist, map given"
    lines = [
        Line(what, "dist", peer, (Target("memory", limits[peer]),) if peer in limits else ())
        for peer in peers
    ]
    return Group(
        {"dist": step(dist, target, weights), **peers},
        lines,
        items=batch,
        item="image",
        whole_memory=True,
        judged=sizes.judged,
    )


def engine_for(settings: config.Settings, classes: int, device: str) -> Engine:
    """The network, loss and optimizer of a configuration, as train.py puts them together."""
    return Engine(
        config.build(settings, "model", classes=classes),
        config.build(settings, "loss"),
        config.build(settings, "optimizer", _partial_=True),
        Meter(classes, settings.metrics.boundary_ratios),
        settings.dataset.mean,
        settings.dataset.std,
        settings.seed,
    ).to(device)


# ---------------------------------------------------------------- all of them


def groups(section: str, sizes: Sizes, device: str) -> list[Callable[[Sizes, str], Group]]:
    """The groups of a section, to be called when their turn comes."""
    wide = sizes.wide is not None
    speeds = {256: 5.0, 512: 10.0}
    on_gpu = device == "cuda"
    return {
        "loss": [multiclass_losses, binary_losses],
        "distance": [
            label_distances, *[wide_distances] * wide, face_distances, *[distances_on_gpu] * on_gpu
        ],
        "boundary": [boundary, *[wide_boundary] * wide],
        "surface": [surfaces(side, speeds.get(side, 5.0)) for side in sizes.surface_sides],
        "data": [samples],
        "step": [gpu_steps if on_gpu else cpu_steps],
    }[section]  # fmt: skip


def main() -> None:
    """Prints {contender: peak bytes} as JSON."""
    section, index, scale, threads = sys.argv[1:]
    torch.set_num_threads(int(threads))
    make = groups(section, SCALES[scale], "cpu")[int(index)]
    names = SCALES[scale].memory
    if names is None:
        names = tuple(n for n, c in make(SCALES["tiny"], "cpu").contenders.items() if callable(c))
    peaks = peaks_in_children(
        lambda: make(SCALES["tiny"], "cpu"), lambda: make(SCALES[scale], "cpu"), names
    )
    print(json.dumps(peaks))


if __name__ == "__main__":
    main()
