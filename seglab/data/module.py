"""Split -> batches on their way to the device.

The order of the training samples is a function of (seed, epoch) alone, what is drawn for each is
one of (seed, epoch, sample), and the batch size is that of all processes together, so that neither
workers nor devices nor a resume change the stream.
"""

import itertools
import os
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from seglab.data.augment import Draw
from seglab.data.planes import Drawn
from seglab.errors import ConfigError


class Split(Protocol):
    """What cache.open_split gives."""

    ids: list[str]

    def __len__(self) -> int:
        """Number of images."""
        ...

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """image (H, W, 3) uint8 or (D, H, W, channels) float32, mask (H, W) or (D, H, W) uint8."""
        ...

    def instances(self, index: int) -> np.ndarray | None:
        """(H, W) numbers of the objects in a mask; None where they are not known."""
        ...


class Planes(Protocol):
    """What `seglab.data.planes` gives."""

    def __call__(self, index: int, mask: np.ndarray, *beside: np.ndarray) -> np.ndarray:
        """Number, mask (H, W) and what was drawn beside it -> (H, W) float32."""
        ...


class Images(Dataset[dict[str, Any]]):
    """A split as tensors: image (3, H, W) uint8, target (H, W) uint8, index.

    Of volumes: image (channels, D, H, W) float32, target (D, H, W) uint8.

    Where a loss weighs its pixels by a plane of each mask, `planes` makes or reads it, and
    weights (H, W) float32 travels along: one plane, not one for each class.

    Args:
        draw: what is drawn anew for each sample (augmentation, a patch); None: nothing.
        stream: begins the seed of each draw, which the sample's key (epoch, index), or index where
            it is drawn once, completes.
    """

    def __init__(
        self,
        split: Split,
        planes: Planes | None = None,
        draw: Draw | None = None,
        stream: Sequence[int] = (),
    ) -> None:
        self.split, self.planes, self.draw, self.stream = split, planes, draw, tuple(stream)

    def __len__(self) -> int:
        return len(self.split)

    def __getitem__(self, key: int | tuple[int, int]) -> dict[str, Any]:
        path = key if isinstance(key, tuple) else (key,)
        index = path[-1]
        image, mask = self.split[index]
        beside: Sequence[np.ndarray] = ()
        if self.draw is not None:
            rng = np.random.default_rng((*self.stream, *path))
            beside = self.planes.beside(index) if isinstance(self.planes, Drawn) else ()
            image, mask, *beside = self.draw(rng, image, mask, *beside)
        mask = np.array(mask)  # a volume's is a view of a file
        item = {
            "image": torch.from_numpy(np.array(np.moveaxis(image, -1, 0), order="C")),
            "target": torch.from_numpy(mask),
            "index": index,
        }
        if self.planes is not None:
            item["weights"] = torch.from_numpy(np.array(self.planes(index, mask, *beside)))
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


class WithEpoch(Sampler[list[tuple[int, int]]]):
    """The same batches with keys (epoch, index): for images that are drawn anew in every epoch."""

    def __init__(self, batches: TrainBatches) -> None:
        self.sampler = batches  # where Lightning looks for `set_epoch`

    def __len__(self) -> int:
        return len(self.sampler)

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        for batch in self.sampler:
            yield [(self.sampler.epoch, index) for index in batch]


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
    images: Images, batches: Sampler[Any], workers: int, seed: int, *, pin: bool
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

    Yields what `loader` yields, in the same order, already on the device. The order goes there as a
    whole at the first batch of an epoch; after that the CPU never waits for the device.
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
        batches = list(self.batch_sampler)
        order = torch.tensor(list(itertools.chain(*batches)), dtype=torch.int64).to(self.device)
        for chosen in order.split([len(batch) for batch in batches]):
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


class Repeated:
    """Each image of a split several times in a row: several patches of each volume in an epoch."""

    def __init__(self, split: Split, times: int) -> None:
        self.split, self.times = split, times
        self.ids = [id_ for id_ in split.ids for _ in range(times)]

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        return self.split[index // self.times]

    def instances(self, index: int) -> np.ndarray | None:
        """Those of the image."""
        return self.split.instances(index // self.times)


class Head:
    """The first images of a split."""

    def __init__(self, split: Split, images: int) -> None:
        self.split = split
        self.ids = split.ids[:images]

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        return self.split[index]

    def instances(self, index: int) -> np.ndarray | None:
        """Those of the image."""
        return self.split.instances(index)


def head(split: Split, images: int | None) -> Split:
    """The split, or its first `images` where that is fewer."""
    return split if images is None or images >= len(split) else Head(split, images)
