"""The stream of batches is a function of (seed, epoch), whatever the workers and processes."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from seglab.data import module
from seglab.errors import ConfigError


class Numbers:
    """A split whose image i is full of i."""

    def __init__(self, images):
        self.ids = [str(i) for i in range(images)]

    def __len__(self):
        return len(self.ids)

    def __getitem__(self, index):
        return np.full((4, 6, 3), index, np.uint8), np.full((4, 6), index % 2, np.uint8)


def epoch_of(images, batch_size, seed, epoch, rank=0, world=1, max_steps=None):
    batches = module.TrainBatches(images, batch_size, seed, rank, world, max_steps)
    batches.set_epoch(epoch)
    return list(batches)


@given(st.integers(1, 40), st.integers(1, 8), st.integers(0, 2**32 - 1), st.integers(0, 99))
def test_an_epoch_takes_each_image_at_most_once_in_whole_batches(images, size, seed, epoch):
    if size > images:
        return
    taken = epoch_of(images, size, seed, epoch)
    assert [len(batch) for batch in taken] == [size] * (images // size)
    flat = [index for batch in taken for index in batch]
    assert len(set(flat)) == len(flat)
    assert set(flat) <= set(range(images))


def test_the_order_is_a_function_of_seed_and_epoch():
    first = epoch_of(30, 5, 42, 0)
    assert first == epoch_of(30, 5, 42, 0)
    assert first != epoch_of(30, 5, 42, 1)
    assert first != epoch_of(30, 5, 43, 0)


@given(st.integers(1, 4), st.integers(1, 3), st.integers(0, 5))
def test_processes_share_out_the_batches_of_one(world, share, epoch):
    together = epoch_of(25, world * share, 42, epoch)
    shares = [epoch_of(25, world * share, 42, epoch, rank, world) for rank in range(world)]
    for step, batch in enumerate(together):
        assert [index for rank in range(world) for index in shares[rank][step]] == batch


@given(st.integers(1, 30), st.integers(1, 7), st.integers(1, 4))
def test_an_evaluation_takes_each_image_exactly_once_over_all_processes(images, size, world):
    taken = [
        index
        for rank in range(world)
        for batch in module.EvaluationBatches(images, size, rank, world)
        for index in batch
    ]
    assert sorted(taken) == list(range(images))


def test_a_batch_larger_than_the_split_is_refused():
    with pytest.raises(
        ConfigError, match=r"trainer\.batch_size=4: .* has 3 images. Take at most 3"
    ):
        module.TrainBatches(3, 4, 0)


def test_a_limit_on_steps_cuts_the_epoch_short():
    assert epoch_of(30, 5, 42, 0, max_steps=2) == epoch_of(30, 5, 42, 0)[:2]


@pytest.mark.parametrize("workers", [0, 2])
def test_workers_do_not_change_the_stream(workers):
    split = Numbers(11)
    seen = []
    loader = module.loader(
        module.Images(split), module.TrainBatches(11, 3, 42), workers, 0, pin=False
    )
    for epoch in range(2):
        loader.batch_sampler.set_epoch(epoch)
        seen.append([batch["index"].tolist() for batch in loader])
    assert seen == [epoch_of(11, 3, 42, epoch) for epoch in range(2)]


def test_a_batch_is_uint8_channels_first():
    batch = module.as_batch(module.Images(Numbers(3)), [2, 1])
    assert batch["image"].shape == (2, 3, 4, 6)
    assert batch["image"].dtype == batch["target"].dtype == torch.uint8
    assert batch["image"][0].unique().tolist() == [2]
    assert batch["index"].tolist() == [2, 1]


def test_a_loader_draws_nothing_from_the_stream_of_the_run():
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    list(module.loader(module.Images(Numbers(4)), module.TrainBatches(4, 2, 0), 0, 0, pin=False))
    assert torch.equal(torch.rand(1), expected)


def test_the_head_of_a_split():
    split = Numbers(5)
    assert module.head(split, None) is split
    assert module.head(split, 9) is split
    assert module.head(split, 2).ids == ["0", "1"]


def test_lightning_tells_each_epoch_to_the_batches():
    from lightning.fabric.utilities.data import _set_sampler_epoch

    loader = module.loader(
        module.Images(Numbers(9)), module.TrainBatches(9, 3, 42), 0, 0, pin=False
    )
    _set_sampler_epoch(loader, 7)
    assert [batch["index"].tolist() for batch in loader] == epoch_of(9, 3, 42, 7)


class Count:
    """A plane whose every pixel is the number of the image, or what `make` says of the mask."""

    def __call__(self, index, mask):
        return np.full(mask.shape, index / 2, np.float32)


def test_a_resident_split_gives_what_a_loader_gives():
    images = module.Images(Numbers(11), Count())
    batches = module.TrainBatches(11, 3, 42)
    resident = module.Resident(images, batches, torch.device("cpu"))
    assert resident.nbytes == module.resident_bytes(images) == 11 * (4 * 6 * (3 + 1 + 4) + 8)
    loader = module.loader(images, batches, 0, 0, pin=False)
    assert len(resident) == len(loader) == 3
    for epoch in range(2):
        batches.set_epoch(epoch)
        for ours, theirs in zip(resident, loader, strict=True):
            assert ours.keys() == theirs.keys() == {"image", "target", "index", "weights"}
            for name in ours:
                assert torch.equal(ours[name], theirs[name])
                assert ours[name].dtype == theirs[name].dtype


class Journeys(TorchDispatchMode):
    """Counts the tensors made of Python's numbers, and the copies to a device, among all that
    PyTorch does."""

    def __init__(self):
        super().__init__()
        self.made = self.copied = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.made += func is torch.ops.aten.lift_fresh.default
        self.copied += func is torch.ops.aten._to_copy.default
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("training", [True, False])
def test_the_order_of_an_epoch_travels_to_the_device_once(training):
    """A GPU waits at each copy of a list, and a batch would bring one."""
    images, device = module.Images(Numbers(11)), torch.device("meta")
    batches = module.TrainBatches(11, 3, 42) if training else module.EvaluationBatches(11, 3)
    resident = module.Resident(images, batches, device)
    with Journeys() as seen:
        sizes = [len(batch["index"]) for batch in resident]
    assert sizes == ([3, 3, 3] if training else [3, 3, 3, 2])
    assert (seen.made, seen.copied) == (1, 1)


@pytest.mark.parametrize(("rank", "world"), [(0, 1), (1, 2), (3, 4)])
def test_a_resident_split_is_shared_out_as_a_loaded_one_is(rank, world):
    images = module.Images(Numbers(11))
    for batches in (
        module.TrainBatches(11, 4, 42, rank, world, max_steps=2),
        module.EvaluationBatches(11, 2, rank, world),  # 11, 5 and 2 images: the last batch differs
    ):
        resident = module.Resident(images, batches, torch.device("cpu"))
        taken = [batch["index"].tolist() for batch in resident]
        assert taken == list(batches)
    assert list(module.Resident(images, module.EvaluationBatches(3, 2, 3, 4), "cpu")) == []
