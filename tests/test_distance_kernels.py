"""The Triton kernels of the distance transforms against SciPy, per label.

check_* run under Triton's interpreter (see tests/triton_tools.py), test_* here, those with the
mark `gpu` where there is one.
"""

import os

import numpy as np
import pytest
import torch

from seglab import distance, kernels
from seglab.distance import (
    chessboard,
    chessboard_map,
    chessboard_on_cuda,
    squared_euclidean,
    squared_euclidean_map,
    squared_euclidean_on_cuda,
)
from tests.test_distance import chessboard_by_scipy, random_map, squared_by_scipy
from tests.triton_tools import compiled, interpreted, no_waiting


def squared(labels):
    return squared_euclidean_on_cuda(labels, None)


both = pytest.mark.parametrize(
    ("transform", "by_scipy"),
    [
        pytest.param(squared, squared_by_scipy, id="euclidean"),
        pytest.param(chessboard_on_cuda, chessboard_by_scipy, id="chessboard"),
    ],
)


def assert_exact(transform, by_scipy, images):
    """`images`: (B, H, W) array."""
    found = transform(torch.from_numpy(images))
    assert found.dtype == torch.float32
    assert found.is_contiguous()
    for image, one in zip(images, found.numpy(), strict=True):
        np.testing.assert_array_equal(one, by_scipy(image))


# Under the interpreter -----------------------------------------------------------------------


@pytest.fixture(autouse=os.environ.get("TRITON_INTERPRET") == "1")
def _interpreter(monkeypatch):
    """Kernels for CPU tensors. The interpreter scans slowly: no padding worth the name."""
    from seglab.kernels import distance as triton_form

    monkeypatch.setattr(kernels, "_runs_on", lambda device: device.type == "cpu")
    monkeypatch.setattr(triton_form, "NUMBERS", 64)
    with np.errstate(all="ignore"):
        yield


@both
def check_fuzzed_maps_are_exact(transform, by_scipy):
    rng = np.random.default_rng(0)
    shapes = [(1, 1), (1, 2), (2, 1), (1, 60), (40, 1), (40, 60), (33, 32), (8, 32), (9, 33)]
    shapes += [tuple(rng.integers(1, 14, size=2)) for _ in range(55)]
    for case, shape in enumerate(shapes):
        dtype = [np.uint8, np.int64, np.int32, np.int16][case % 4]
        labels = random_map(rng, shape, int(rng.integers(2, 8)), dtype)
        assert_exact(transform, by_scipy, labels[None])


@both
def check_lines_longer_than_what_is_scanned_at_once(monkeypatch, transform, by_scipy):
    from seglab.kernels import distance as triton_form

    monkeypatch.setattr(triton_form, "LONGEST", 4)
    rng = np.random.default_rng(1)
    for shape in ((1, 30), (30, 1), (4, 8), (11, 13), (17, 16)):
        assert_exact(transform, by_scipy, random_map(rng, shape, 3)[None])
    far = np.zeros((2, 3, 21), dtype=np.int64)
    far[0, 0, 0] = far[1, 2, 20] = 1
    assert_exact(transform, by_scipy, far)
    assert_exact(transform, by_scipy, far.swapaxes(1, 2).copy())


@both
def check_a_batch_is_its_images(transform, by_scipy):
    rng = np.random.default_rng(2)
    images = [random_map(rng, (7, 9), 3) for _ in range(3)]
    single = np.full((7, 9), 255)  # nothing else in the image: infinite
    assert_exact(transform, by_scipy, np.stack([images[0], single, *images[1:]]))
    assert transform(torch.zeros(0, 4, 4, dtype=torch.uint8)).shape == (0, 4, 4)
    assert transform(torch.zeros(2, 0, 4, dtype=torch.uint8)).shape == (2, 0, 4)


@both
def check_no_label_is_special_and_no_stride(transform, by_scipy):
    labels = random_map(np.random.default_rng(3), (10, 12), 3)
    labels[labels == 255] = 2
    expected = torch.from_numpy(by_scipy(labels)).float()
    for names in ([0, 254, 255], [-1, 0, 1], [2**40, 0, -(2**40)], [2**32, 0, 1]):
        renamed = torch.tensor(names)[torch.from_numpy(labels)]
        assert torch.equal(transform(renamed[None])[0], expected), names
    turned = torch.from_numpy(labels)[None].mT.contiguous().mT
    wider = torch.from_numpy(labels)[None].repeat_interleave(2, 2)[..., ::2]
    assert torch.equal(transform(turned)[0], expected)
    assert torch.equal(transform(wider)[0], expected)
    binary = torch.from_numpy(labels > 0)
    expected = torch.from_numpy(by_scipy(labels > 0)).float()
    assert torch.equal(transform(binary[None])[0], expected)


def check_spacing_follows_the_axes():
    labels = random_map(np.random.default_rng(4), (9, 11), 3)
    for spacing in ([2.0, 0.5], [0.25, 3.0]):
        found = squared_euclidean_on_cuda(torch.from_numpy(labels)[None], spacing)[0]
        expected = squared_by_scipy(labels, spacing)
        np.testing.assert_allclose(found.numpy(), expected, rtol=1e-6)


def check_long_distances_are_exact():
    labels = torch.zeros(1, 1, 4097, dtype=torch.uint8)
    labels[..., 0] = 1
    steps = torch.arange(4097.0).clamp(min=1)
    assert torch.equal(squared(labels).flatten(), steps**2)


# Here ------------------------------------------------------------------------------------------


@pytest.mark.timeout(300)
def test_under_the_interpreter():
    interpreted(__file__)


def test_volumes_and_machines_without_kernels_take_the_way_by_the_cpu(monkeypatch):
    monkeypatch.setattr(kernels, "_runs_on", lambda _: True)
    rng = np.random.default_rng(5)
    volumes = torch.from_numpy(random_map(rng, (2, 4, 5), 3))[None]
    assert torch.equal(squared(volumes), squared_euclidean(volumes))
    assert torch.equal(chessboard_on_cuda(volumes), chessboard(volumes))
    monkeypatch.setenv("SEGLAB_TRITON", "0")
    maps = torch.from_numpy(random_map(rng, (4, 5), 3))[None]
    assert torch.equal(squared(maps), squared_euclidean(maps))
    assert torch.equal(chessboard_on_cuda(maps), chessboard(maps))
    assert torch.equal(squared_euclidean_on_cuda(maps, [2.0, 1.0]), squared_euclidean(maps, (2, 1)))


@pytest.mark.parametrize(
    ("shape", "dtype"),
    [((32, 512, 512), torch.uint8), ((2, 1024, 2048), torch.int64), ((1, 7, 1), torch.bool)],
)
def test_compiles_for_a_gpu(monkeypatch, tmp_path, shape, dtype):
    pytest.importorskip("triton")
    from seglab.kernels import distance as triton_form

    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    labels = torch.empty(shape, dtype=dtype, device="meta")

    def call():
        if dtype == torch.uint8:
            triton_form.chessboard(labels)
        else:
            triton_form.squared_euclidean(labels, [1.0, 2.0])

    assert len(compiled(monkeypatch, triton_form, ["_behind", "_search"], call)) == 5


# On a GPU --------------------------------------------------------------------------------------


PAIRS = pytest.mark.parametrize(
    ("batched", "single"),
    [(squared_euclidean, squared_euclidean_map), (chessboard, chessboard_map)],
)


@pytest.mark.gpu
@PAIRS
def test_gpu_fuzzed_maps_are_exact(cuda, batched, single):
    rng = np.random.default_rng(0)
    for case in range(200):
        shape = tuple(rng.integers(1, [70, 1500] if case % 10 == 0 else [70, 90]))
        labels = random_map(rng, shape[:: 1 if case % 20 else -1], int(rng.integers(2, 20)))
        found = batched(torch.from_numpy(labels)[None].to(cuda))[0].cpu().numpy()
        np.testing.assert_array_equal(found, single(labels), err_msg=f"case {case}, {shape}")


@pytest.mark.gpu
@PAIRS
def test_gpu_full_size(cuda, batched, single):
    rng = np.random.default_rng(1)
    images = np.stack([random_map(rng, (512, 512), 6, np.uint8) for _ in range(8)])
    images[3] = 5  # one label: infinite
    labels = torch.from_numpy(images).to(cuda).repeat(4, 1, 1)
    batched(labels)  # compiles
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    with no_waiting():
        found, again = batched(labels), batched(labels)
    assert torch.equal(found, again)
    planes = (torch.cuda.max_memory_allocated() - before) / (4 * labels.numel())
    assert planes < 4
    for image, one in zip(images, found[:8].cpu().numpy(), strict=True):
        np.testing.assert_array_equal(one, single(image))
    assert torch.equal(found[:8], found[24:])


@pytest.mark.gpu
def test_gpu_street_scene_volumes_and_the_switch(cuda, monkeypatch):
    labels = torch.zeros(2, 1024, 2048, dtype=torch.uint8)
    labels[0, 300:, 100:1900] = 7
    labels[1, 700:703, 1000:1003] = 3
    for batched in (squared_euclidean, chessboard):
        found = batched(labels.to(cuda)).cpu()
        assert torch.equal(found, batched(labels))
        volume = labels[:, :64, :64].unflatten(1, (8, 8)).to(cuda)
        assert torch.equal(batched(volume).cpu(), batched(volume.cpu()))
    monkeypatch.setattr(distance.kernels, "chosen", lambda _: False)
    assert torch.equal(squared_euclidean(labels.to(cuda)).cpu(), squared_euclidean(labels))


@pytest.mark.gpu
@PAIRS
def test_gpu_compiles_with_any_strides(cuda, batched, single):
    """By the compiler that holds an operator to the strides that it told."""
    labels = torch.from_numpy(random_map(np.random.default_rng(2), (40, 50), 5))
    there = labels.to(cuda)[None].mT
    compiled_form = torch.compile(lambda x: batched(x) + 1, fullgraph=True)
    expected = torch.from_numpy(single(np.ascontiguousarray(labels.numpy().T)))[None] + 1
    assert torch.equal(compiled_form(there).cpu(), expected)
