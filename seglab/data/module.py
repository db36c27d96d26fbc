"""Split -> batches on their way to the device.

The order of the training samples is a function of (seed, epoch) alone, and the batch size is that
of all processes together, so that neither workers nor devices nor a resume change the stream.
"""

import itertools
import os
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from seglab.errors import ConfigError


class Split(Protocol):
    """What cache.open_split gives."""

    ids: list[str]

    def __len__(self) -> int:
        """Number of images."""
        ...

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """image (H, W, 3) uint8, mask (H, W) uint8."""
        ...


Planes = Callable[[int, np.ndarray], np.ndarray]  # number and mask (H, W) -> (H, W) float32


class Images(Dataset[dict[str, Any]]):
    """A split as tensors: image (3, H, W) uint8, target (H, W) uint8, index.

    Where a loss weighs its pixels by a plane of each mask, `planes` makes or reads it, and
    weights (H, W) float32 travels along: one plane, not one for each class.
    """

    def __init__(self, split: Split, planes: Planes | None = None) -> None:
        self.split, self.planes = split, planes

    def __len__(self) -> int:
        return len(self.split)

    def __getitem__(self, index: int) -> dict[str, Any]:
        image, mask = self.split[index]
        item = {
            "image": torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1))),
            "target": torch.from_numpy(np.array(mask)),
            "index": index,
        }
        if self.planes is not None:
            item["weights"] = torch.from_numpy(np.array(self.planes(index, mask)))
        return item


class TrainBatches(Sampler[list[int]]):
    """This process's share of each batch, in an order drawn from (seed, epoch).

    The images are permuted, cut into batches of `batch_size`, and each of `world` processes takes
    its stretch of every batch. Images that fill no batch wait for the next epoch.
    """

    def __init__(
        self,
        images: int,
        batch_size: int,
        seed: int,
        rank: int = 0,
        world: int = 1,
        max_steps: int | None = None,
    ) -> None:
        if batch_size > images:
            raise ConfigError(
                f"trainer.batch_size={batch_size}: the training split has {images} images. "
                f"Take at most {images}."
            )
        assert batch_size % world == 0, "settled when the configuration was read"
        self.images, self.batch_size, self.seed = images, batch_size, seed
        self.rank, self.world = rank, world
        self.steps = min(images // batch_size, max_steps or images)
        self.epoch = 0

    @property
    def sampler(self) -> "TrainBatches":
        """Where Lightning looks for `set_epoch`: at a batch sampler's sampler alone."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Lightning calls this before each epoch, on resume too."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[list[int]]:
        order = np.random.default_rng((self.seed, 2, self.epoch)).permutation(self.images)
        share = self.batch_size // self.world
        for step in range(self.steps):
            start = step * self.batch_size + self.rank * share
            yield order[start : start + share].tolist()


class EvaluationBatches(Sampler[list[int]]):
    """Every image once: process r of `world` takes the images r, r + world, ..."""

    def __init__(self, images: int, batch_size: int, rank: int = 0, world: int = 1) -> None:
        self.mine = list(range(rank, images, world))
        self.batch_size = batch_size

    def __len__(self) -> int:
        return -(-len(self.mine) // self.batch_size)

    def __iter__(self) -> Iterator[list[int]]:
        for start in range(0, len(self.mine), self.batch_size):
            yield self.mine[start : start + self.batch_size]


def loader(
    images: Images, batches: Sampler[list[int]], workers: int, seed: int, *, pin: bool
) -> DataLoader:
    """The batches of a split, loaded by `workers` processes (0: by this one).

    The workers' own streams come from `seed`; nothing is drawn from the stream of the run.
    """
    return DataLoader(
        images,
        batch_sampler=batches,
        num_workers=workers,
        pin_memory=pin,
        persistent_workers=workers > 0,
        worker_init_fn=_one_thread,
        generator=torch.Generator().manual_seed(seed),
    )


class Resident:
    """A whole split in the memory of a device: a batch is a selection, and no loader is in the way.

    Yields what `loader` yields, in the same order, already on the device.
    """

    def __init__(self, images: Images, batches: Sampler[list[int]], device: torch.device) -> None:
        self.batch_sampler, self.device = batches, device
        items = (images[index] for index in range(len(images)))
        first = next(items)
        shapes = {name: torch.as_tensor(value) for name, value in first.items()}
        self.planes = {
            name: torch.empty((len(images), *value.shape), dtype=value.dtype, device=device)
            for name, value in shapes.items()
        }
        for number, item in enumerate(itertools.chain([first], items)):
            for name, value in item.items():
                self.planes[name][number] = torch.as_tensor(value)

    @property
    def nbytes(self) -> int:
        """Bytes that it holds on the device."""
        return sum(plane.nbytes for plane in self.planes.values())

    def __len__(self) -> int:
        return len(self.batch_sampler)  # type: ignore[arg-type]

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        for indices in self.batch_sampler:
            chosen = torch.tensor(indices, device=self.device)
            yield {name: plane.index_select(0, chosen) for name, plane in self.planes.items()}


def resident_bytes(images: Images) -> int:
    """Bytes that a split would take on a device."""
    return len(images) * sum(torch.as_tensor(value).nbytes for value in images[0].values())


def _one_thread(worker: int) -> None:
    """OpenCV's threads do not survive a fork, and would fight over the cores."""
    del worker
    cv2.setNumThreads(0)
    torch.set_num_threads(1)


def worker_count(wanted: str, *, on_gpu: bool, devices: int) -> int:
    """`auto`: none beside a CPU that trains, else the cores shared out, 8 for a GPU at most."""
    if wanted != "auto":
        return int(wanted)
    return min(8, (os.cpu_count() or 1) // devices) if on_gpu else 0


def as_batch(images: Images, indices: list[int]) -> dict[str, Tensor]:
    """Some images of a split as one batch."""
    return torch.utils.data.default_collate([images[index] for index in indices])


class Head:
    """The first images of a split."""

    def __init__(self, split: Split, images: int) -> None:
        self.split = split
        self.ids = split.ids[:images]

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        return self.split[index]


def head(split: Split, images: int | None) -> Split:
    """The split, or its first `images` where that is fewer."""
    return split if images is None or images >= len(split) else Head(split, images)
