"""The data of a run on its way to the engine: opened, checked, drawn, batched."""

import math
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from lightning.fabric.plugins.environments import SLURMEnvironment, TorchElasticEnvironment
from lightning.pytorch.utilities.rank_zero import rank_zero_only
from torch import nn

from seglab import config, record
from seglab.config import Settings
from seglab.console import say
from seglab.data import augment, cache, check, module, planes
from seglab.data.check import Verdict
from seglab.data.preprocess import Preprocess
from seglab.data.source import Source
from seglab.engine import stream
from seglab.errors import ConfigError, RunError, UserError

SMALL_BYTES = 1 << 30  # data.prepare=auto writes the arrays of a set up to this size by itself
ALIKE = 1.05  # sides of voxels below this ratio count as equal: resizing rounds the number of rows
RESIDENT_SHARE = 0.3  # of the free GPU memory, for each split: the model needs the rest


@dataclass
class Data:
    """The splits of a run, open, and what is known of them."""

    source: Source
    splits: dict[str, Any]  # as they are used: evaluated ones cut to trainer.max_images
    whole: dict[str, Any]  # as they are on disk
    fingerprint: str
    ignored: bool  # whether any pixel is labelled 255
    shape: tuple[int, ...] | None  # (H, W) of every image; None: volumes of any size

    @property
    def volumes(self) -> bool:
        """Whether the samples are volumes, which are trained on in patches."""
        return self.shape is None

    def pixels(self, name: str) -> int:
        """Pixels of a whole split of images."""
        assert self.shape is not None
        return len(self.whole[name]) * math.prod(self.shape)


def open_data(settings: Settings, *, main: bool) -> Data:
    """Opens every split of a data set that has no fault.

    Errors: DataError for a missing or faulty data set; ConfigError for a batch that is too large.
    """
    source: Source = config.build(settings, "dataset")
    preprocess = Preprocess(settings.dataset.size, settings.dataset.pad)
    refuse_wrong_dimensions(settings, source)
    verdict = check.require_clean(source, settings.cache_dir)
    volumes = source.dimensions == 3
    shape = None if volumes else cache.one_shape(source, preprocess, verdict)
    if main:
        prepare(settings, source, preprocess, verdict)
    names = list(dict.fromkeys(("train", "val", source.test_split)))
    splits = {
        name: cache.open_split(source, preprocess, settings.cache_dir, verdict, name)
        for name in names
    }
    if main:
        listed = ", ".join(f"{len(split)} {name}" for name, split in splits.items())
        extent = "volumes" if shape is None else f"{shape[0]} x {shape[1]} pixels"
        say(f"{source.name}: {listed}; {extent}")
        say(splits["train"].message())
    limited = {
        name: module.head(split, None if name == "train" else settings.trainer.max_images)
        for name, split in splits.items()
    }
    refuse_idle_processes(settings, limited)
    if main:
        look_at_classes(source, verdict)
        look_at_patches(settings, verdict)
    ignored = any(verdict.ignored.values()) or shape not in verdict.shapes
    return Data(source, limited, splits, verdict.fingerprint, ignored, shape)


def look_at_classes(source: Source, verdict: Verdict) -> None:
    """Says which classes occur in no training mask.

    Errors: ConfigError where none of several does but the first, though other pixels are ignored.
    """
    pixels = verdict.histogram["train"]
    absent = [name for name, count in zip(source.classes, pixels, strict=False) if not count]
    if source.num_classes == 1 or not absent:
        return
    if not any(pixels[1:]) and verdict.ignored["train"]:
        raise ConfigError(
            f"dataset.classes={list(source.classes)}: the training masks hold only 0 and 255, and "
            "255 is ignored where there are several classes. If 255 is the foreground, give one "
            "name: dataset.classes=[foreground]."
        )
    shown = ", ".join(absent[:5]) + ", ..." * (len(absent) > 5)
    say(
        f"Warning: {len(absent)} of {source.num_classes} classes occur in no training mask: {shown}"
    )


def look_at_patches(settings: Settings, verdict: Verdict) -> None:
    """Says where a patch is larger than every volume along an axis."""
    patch = settings.dataset.patch
    if patch is None:
        return
    largest = [max(sides) for sides in zip(*verdict.shapes, strict=True)]
    if any(side > most for side, most in zip(patch, largest, strict=True)):
        share = math.prod(map(min, patch, largest)) / math.prod(patch)
        say(
            f"Warning: dataset.patch={patch} reaches beyond every volume (the largest sides are "
            f"{largest}): at least {1 - share:.0%} of each patch is padding. Take a smaller one."
        )


def look_at_spacing(settings: Settings, data: Data, loss: nn.Module) -> None:
    """Says where a loss measures in voxels though the data set knows that these are not cubes.

    Such a loss, or a term of one, has an attribute `spacing`: a length for each axis of the target,
    in that order, or None for voxels (pixels of an image).
    """
    names = [name for name, part in loss.named_modules() if getattr(part, "spacing", ()) is None]
    spacings = _spacings(settings, data) if names else []
    if not any(_differ(sides) for sides in spacings):
        return
    keys = [
        re.sub(r"losses\.([^.]+)", r"terms.\1.loss", f"loss.{name}".strip(".")) for name in names
    ]
    size = "[" + ",".join(f"{side:.3g}" for side in np.median(spacings, axis=0)) + "]"
    given = " ".join(f"{key}.spacing={size}" for key in keys)
    if not any(_differ(lengths) for lengths in zip(*spacings, strict=True)):
        rest = f"which are {size} mm. For millimetres: {given}"
    else:
        rest = f"which differ from volume to volume (median {size} mm). "
        rest += (
            f"For millimetres resample them to one: dataset.spacing={size} {given}"
            if data.volumes
            else f"No one spacing fits all; that of the median: {given}"
        )
    say(
        f"Warning: {' and '.join(f'{key}.spacing' for key in keys)}=null: the loss measures "
        f"distances in {'voxels' if data.volumes else 'pixels'}, {rest}"
    )


def _spacings(settings: Settings, data: Data) -> list[tuple[float, ...]]:
    """Millimetres along each axis of the training target, of each file; none where not known."""
    target = settings.tree["dataset"].get("spacing") if data.volumes else None
    if target is not None:
        return [tuple(target)]
    preprocess = Preprocess(settings.dataset.size, settings.dataset.pad)
    samples = {sample.files: sample for sample in data.source.samples("train")}.values()
    found = [cache.spacing_of(data.source, preprocess, sample) for sample in samples]
    return [spacing for spacing in found if spacing is not None]


def _differ(lengths: Sequence[float]) -> bool:
    return max(lengths) > ALIKE * min(lengths)


def refuse_idle_processes(settings: Settings, splits: dict[str, Any]) -> None:
    """Errors: ConfigError where an evaluated split has fewer images than there are processes."""
    world = settings.trainer.world_size
    for name, split in splits.items():
        if name != "train" and len(split) < world:
            raise ConfigError(
                f"trainer.devices={settings.trainer.devices}, trainer.num_nodes="
                f"{settings.trainer.num_nodes}: split {name} has {len(split)} image(s), and each "
                f"of the {world} processes needs one. Take fewer devices, or more images."
            )


def refuse_wrong_dimensions(settings: Settings, source: Source) -> None:
    """Errors: ConfigError where dataset.patch is given for images, or is not for volumes."""
    patch = settings.dataset.patch
    if source.dimensions == 3 and patch is None:
        raise ConfigError(
            f"dataset.patch: dataset={source.name} has volumes, which are trained on in patches. "
            "Give their sides in voxels: dataset.patch=[64,128,128]."
        )
    if source.dimensions == 2 and patch is not None:
        raise ConfigError(
            f"dataset.patch={patch}: dataset={source.name} has images. For crops of them take an "
            "augmentation."
        )


def prepare(settings: Settings, source: Source, preprocess: Preprocess, verdict: Verdict) -> None:
    """Writes the arrays if they are wanted: data.prepare=yes, or auto and the set is small."""
    if wants_preparing(settings, cache.bytes_needed(source, preprocess, verdict)):
        try:
            cache.prepare(source, preprocess, settings.cache_dir, verdict)
        except RunError as error:  # another process is at it: the files do meanwhile
            say(f"{error} Reading the files meanwhile.")


def wants_preparing(settings: Settings, size_bytes: int) -> bool:
    """data.prepare: yes, or auto and it is small."""
    wanted = settings.data.prepare
    return wanted == "yes" or (wanted == "auto" and size_bytes <= SMALL_BYTES)


class Feed:
    """The samples of a run as the network sees them, and the batches of each split.

    Args:
        on_gpu: whether a GPU computes.
        main: whether this process writes what is prepared (rank 0).

    Attributes:
        trained, evaluated: shape of what the network sees: (H, W), or (D, H, W) of volumes.
        resident_bytes: of data kept on the GPU.

    Errors: ConfigError where the augmentation fails, or gives images of several sizes.
    """

    def __init__(self, settings: Settings, data: Data, *, on_gpu: bool, main: bool) -> None:
        self.settings, self.data, self.on_gpu, self.main = settings, data, on_gpu, main
        self.augmentation = config.build(settings, "augmentation")
        if data.volumes:
            self.augmentation.refuse_for_volumes()
        self.resident_bytes = 0
        self.trained = self._shape("train", "train")
        self.evaluated = (
            tuple(settings.dataset.patch or ())
            if data.volumes
            else self._shape("evaluation", "val")
        )

    @property
    def place(self) -> torch.device:
        """Where this process computes."""
        return torch.device("cuda", local_rank()) if self.on_gpu else torch.device("cpu")

    def shapes(self, name: str) -> list[tuple[int, ...]]:
        """Of each sample of an evaluated split, as it is counted."""
        split, images = self.data.splits[name], self.images(name)
        if not self.data.volumes:
            return [self.evaluated] * len(split)
        if images.draw is None:
            return [split[index][1].shape for index in range(len(split))]
        return [tuple(images[index]["target"].shape) for index in range(len(split))]

    def images(self, name: str, weights: module.Planes | None = None) -> module.Images:
        """A split as it is trained on or evaluated: patches, augmented, or whole."""
        split, own, seed = self._split(name), self.settings.dataset, self.settings.seed
        if name != "train":
            drawn = self.augmentation.evaluation
            return module.Images(split, weights, drawn, augment.EVALUATION_STREAM)
        draw = self.augmentation.train
        if own.patch is not None:
            patch = augment.Patch(own.patch, own.patch_foreground)
            draw = augment.Chain(patch, draw) if draw else patch
        return module.Images(split, weights, draw, (seed, 5))

    def _split(self, name: str) -> Any:
        split, own = self.data.splits[name], self.settings.dataset
        if own.patch is None or name != "train":
            return split
        return module.Repeated(split, own.patches_per_volume)

    def loaders(self, loss: nn.Module) -> dict[str, Any]:
        """Split -> its batches, with the loss's weight of each pixel where it has such planes."""
        settings, place = self.settings.trainer, self.place
        rank, world = rank_zero_only.rank, settings.world_size
        workers = module.worker_count(
            self.settings.data.workers, on_gpu=self.on_gpu, devices=settings.devices
        )
        loaders: dict[str, Any] = {}
        for name in self.data.splits:
            images = self.images(name, self._planes(name, loss))
            if name == "train":
                batches: Any = module.TrainBatches(
                    len(images),
                    settings.batch_size,
                    self.settings.seed,
                    rank,
                    world,
                    settings.max_steps,
                )
                batches = module.WithEpoch(batches) if images.draw else batches
            else:
                share = 1 if self.data.volumes else settings.batch_size // world
                batches = module.EvaluationBatches(len(images), share, rank, world)
            if self._stays_on_device(name, images, place):
                loaders[name] = module.Resident(images, batches, place)
                self.resident_bytes += loaders[name].nbytes if self.on_gpu else 0
            else:
                loaders[name] = module.loader(
                    images,
                    batches,
                    workers,
                    stream(self.settings.seed, 3, rank),
                    pin=self.on_gpu,
                )
        return loaders

    def _planes(self, name: str, loss: nn.Module) -> module.Planes | None:
        make = getattr(loss, "plane", None)
        if make is None:
            return None
        split = self.data.whole[name]
        key = record.plane_key(self.settings.tree["loss"])
        if self.data.volumes or self._draws(name):
            return planes.Drawn(self._split(name), make)
        if self.main and wants_preparing(self.settings, 4 * self.data.pixels(name)):
            planes.prepare(split, make, key)
        return planes.of(split, make, key)

    def _draws(self, name: str) -> bool:
        drawn = self.augmentation.train if name == "train" else self.augmentation.evaluation
        return drawn is not None

    def _stays_on_device(self, name: str, images: module.Images, place: torch.device) -> bool:
        """Volumes, of any size, and what is drawn anew in each epoch, come from a loader.

        With data.on_device=auto so do images without prepared arrays: workers had better decode
        them than this process, one by one, before the first step.
        """
        wanted = self.settings.data.on_device
        if self.data.volumes or (name == "train" and self._draws(name)):
            return False
        if wanted == "auto" and self.on_gpu:
            if not isinstance(self.data.whole[name], cache.PreparedSplit):
                return False
            free, _ = torch.cuda.mem_get_info(place)
            return module.resident_bytes(images) <= RESIDENT_SHARE * free
        return wanted == "yes"

    def _shape(self, part: str, name: str) -> tuple[int, ...]:
        images = self.images(name)
        few = range(min(3, len(images)))
        keys: list[Any] = [(epoch, 0) for epoch in range(3)] if part == "train" else list(few)
        where = f"{config.file_of(self.settings, 'augmentation')}: {part}"
        try:
            found = {tuple(images[key]["target"].shape) for key in keys}
        except UserError:
            raise
        except Exception as error:  # whatever a step of a pipeline raises
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise ConfigError(f"{where}: {reason}") from error
        if len(found) > 1:
            sizes = ", ".join(" x ".join(map(str, size)) for size in sorted(found))
            raise ConfigError(
                f"{where}: it gives images of several sizes ({sizes}), and a batch needs one. "
                "End it with a crop."
            )
        return found.pop()


def local_rank() -> int:
    """Which of this machine's processes this is, when several train together.

    Lightning's own answer, for it is Lightning that chooses the device of the network: SLURM's
    number where srun started them, else that of torchrun or of Lightning itself.
    """
    if not TorchElasticEnvironment.detect() and SLURMEnvironment.detect():
        return int(os.environ.get("SLURM_LOCALID", "0"))
    return int(os.environ.get("LOCAL_RANK", "0"))
