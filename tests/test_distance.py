"""The multi-label distance transforms against one SciPy transform per label."""

import numpy as np
import pytest
import torch
from scipy import ndimage

from seglab.distance import (
    chessboard,
    chessboard_map,
    depth_map,
    squared_euclidean,
    squared_euclidean_map,
)

IGNORE = 255


def squared_by_scipy(labels, spacing=None):
    """Integer arithmetic from the indices of the nearest pixel, so without rounding."""
    out = np.full(labels.shape, np.inf)
    spacing = np.ones(labels.ndim) if spacing is None else np.asarray(spacing)
    for label in np.unique(labels):
        mask = labels == label
        if not mask.all():
            nearest = ndimage.distance_transform_edt(
                mask, sampling=spacing, return_distances=False, return_indices=True
            )
            steps = (np.indices(labels.shape) - nearest).reshape(labels.ndim, -1)
            squared = ((steps * spacing[:, None]) ** 2).sum(axis=0).reshape(labels.shape)
            out[mask] = squared[mask]
    return out


def chessboard_by_scipy(labels):
    out = np.full(labels.shape, np.inf)
    for label in np.unique(labels):
        mask = labels == label
        if not mask.all():
            out[mask] = ndimage.distance_transform_cdt(mask, metric="chessboard")[mask]
    return out


TRANSFORMS = [
    pytest.param(squared_euclidean_map, squared_by_scipy, id="euclidean"),
    pytest.param(chessboard_map, chessboard_by_scipy, id="chessboard"),
]
both = pytest.mark.parametrize(("transform", "by_scipy"), TRANSFORMS)


def random_map(rng, shape, labels, dtype=np.int64):
    """Regions, noise or single odd pixels; label 0 is among them, and sometimes 255."""
    style = rng.integers(3)
    if style == 0:
        out = rng.integers(labels, size=shape)
    else:
        fields = rng.standard_normal((labels, *shape))
        width = rng.choice([1.0, 3.0, 8.0])
        sigma = [0] + [min(width, side / 3) for side in shape]
        out = ndimage.gaussian_filter(fields, sigma, mode="nearest").argmax(axis=0)
        if style == 2:
            odd = rng.random(shape) < 0.02
            out = np.where(odd, rng.integers(labels, size=shape), out)
    if rng.random() < 0.5:
        out[rng.random(shape) < rng.choice([0.02, 0.3])] = IGNORE
        out[: rng.integers(shape[0] + 1) // 2] = IGNORE
    return out.astype(dtype)


@both
def test_fuzzed_maps_are_exact(transform, by_scipy):
    rng = np.random.default_rng(0)
    for case in range(320):
        shape = tuple(rng.integers(1, 65, size=2))
        if case % 8 == 0:
            shape = (1, shape[1]) if case % 16 else (shape[0], 1)
        dtype = [np.uint8, np.int64, np.int32, np.uint16][case % 4]
        labels = random_map(rng, shape, int(rng.integers(2, 21)), dtype)
        found = transform(labels)
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found, by_scipy(labels), err_msg=f"case {case}, {shape}")


@both
def test_fuzzed_volumes_are_exact(transform, by_scipy):
    rng = np.random.default_rng(1)
    for _ in range(40):
        labels = random_map(rng, tuple(rng.integers(1, 13, size=3)), int(rng.integers(2, 6)))
        np.testing.assert_array_equal(transform(labels), by_scipy(labels))


@both
def test_a_full_size_image_is_exact(transform, by_scipy):
    labels = random_map(np.random.default_rng(2), (512, 512), 6)
    np.testing.assert_array_equal(transform(labels), by_scipy(labels))


@both
def test_a_street_scene_size_is_exact(transform, by_scipy):
    labels = np.zeros((1024, 2048), dtype=np.uint8)
    labels[300:, 100:1900] = 7
    labels[500:520] = IGNORE
    labels[700:703, 1000:1003] = 3
    np.testing.assert_array_equal(transform(labels), by_scipy(labels))


@both
@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (5, 6), (64, 64), (2, 3, 4)])
@pytest.mark.parametrize("label", [0, 3, IGNORE])
def test_a_single_label_has_no_distance(transform, by_scipy, shape, label):
    labels = np.full(shape, label, dtype=np.uint8)
    assert (transform(labels) == np.inf).all()
    np.testing.assert_array_equal(by_scipy(labels), transform(labels))


def test_the_image_border_is_not_background():
    labels = np.zeros((1, 6), dtype=np.uint8)
    labels[0, 5] = 1
    assert squared_euclidean_map(labels).tolist() == [[25, 16, 9, 4, 1, 1]]
    assert chessboard_map(labels).tolist() == [[5, 4, 3, 2, 1, 1]]


@both
def test_no_label_is_special(transform, by_scipy):
    # 0 is a transform's usual background, and 255 + 1 is 0 in eight bits.
    labels = random_map(np.random.default_rng(3), (30, 40), 3)
    labels[labels == IGNORE] = 2
    expected = by_scipy(labels)
    for names in ([0, 1, 2], [0, 254, 255], [255, 0, 1], [254, 255, 7]):
        renamed = np.array(names, dtype=np.uint8)[labels]
        np.testing.assert_array_equal(transform(renamed), expected)
    for names in ([-1, 0, 1], [-70000, 0, 70000], [2**40, 0, -(2**40)], [0, 65534, 65535]):
        renamed = np.array(names, dtype=np.int64)[labels]
        np.testing.assert_array_equal(transform(renamed), expected)


def test_more_labels_than_sixteen_bits_are_an_error():
    labels = np.arange(65536).reshape(256, 256)
    with pytest.raises(ValueError, match="65536 different labels"):
        squared_euclidean_map(labels)
    labels[0, 0] = 1  # 65535 labels
    assert squared_euclidean_map(labels)[0, 1] == 1


@both
def test_memory_layout_does_not_matter(transform, by_scipy):
    labels = random_map(np.random.default_rng(4), (20, 31), 4)
    expected = by_scipy(labels)
    np.testing.assert_array_equal(transform(np.asfortranarray(labels)), expected)
    np.testing.assert_array_equal(transform(labels[:, ::-1])[:, ::-1], expected)
    frozen = labels.copy()
    frozen.setflags(write=False)
    np.testing.assert_array_equal(transform(frozen), expected)


def test_long_distances_are_exact():
    labels = np.zeros((1, 4097), dtype=np.uint8)
    labels[0, 0] = 1
    steps = np.maximum(np.arange(4097.0), 1)[None]
    np.testing.assert_array_equal(squared_euclidean_map(labels), steps**2)
    np.testing.assert_array_equal(chessboard_map(labels), steps)


def test_spacing_follows_the_axes():
    rng = np.random.default_rng(5)
    for shape, spacing in (((9, 11), (2.0, 0.5)), ((5, 7, 8), (3.0, 0.5, 1.25))):
        labels = random_map(rng, shape, 3)
        expected = squared_by_scipy(labels, spacing)
        np.testing.assert_allclose(squared_euclidean_map(labels, spacing), expected, rtol=1e-6)
        batch = squared_euclidean(torch.from_numpy(labels)[None], spacing)[0]
        np.testing.assert_allclose(batch.numpy(), expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("batched", "single"),
    [(squared_euclidean, squared_euclidean_map), (chessboard, chessboard_map)],
)
@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int32, torch.int64])
def test_a_batch_is_its_images(batched, single, dtype):
    rng = np.random.default_rng(6)
    labels = np.stack([random_map(rng, (14, 9), 3), np.zeros((14, 9), dtype=np.int64)])
    found = batched(torch.from_numpy(labels).to(dtype))
    assert found.dtype == torch.float32
    expected = np.stack([single(image) for image in labels])
    np.testing.assert_array_equal(found.numpy(), expected)
    assert (found[1] == np.inf).all()


@pytest.mark.parametrize("batched", [squared_euclidean, chessboard])
def test_compiles_without_a_graph_break(batched):
    labels = torch.from_numpy(random_map(np.random.default_rng(7), (2, 8, 9), 3))
    compiled = torch.compile(lambda x: batched(x) + 1, backend="aot_eager", fullgraph=True)
    assert torch.equal(compiled(labels), batched(labels) + 1)


@pytest.mark.parametrize("layout", ["turned", "cropped", "volume"])
@pytest.mark.parametrize("operator", ["squared_euclidean", "chessboard"])
def test_operators_describe_any_strides_correctly(operator, layout):
    rng = np.random.default_rng(8)
    shape = (3, 4, 5) if layout == "volume" else (6, 8)
    labels = torch.from_numpy(np.stack([random_map(rng, shape, 3) for _ in range(2)]))
    labels = labels[..., 1:] if layout == "cropped" else labels.mT
    transform = getattr(torch.ops.seglab, operator)
    arguments = (labels, None) if operator == "squared_euclidean" else (labels,)
    checks = ("test_schema", "test_faketensor")
    torch.library.opcheck(transform, arguments, test_utils=checks)
    assert torch.equal(transform(*arguments), transform(labels.contiguous(), *arguments[1:]))


def test_depth_is_exact_where_opencvs_transform_is_not():
    """OpenCV's works in float32: far away its squared distances are off by one or two."""
    mask = np.ones((60, 4000), dtype=bool)
    mask[31, 2] = False
    exact = (np.arange(60)[:, None] - 31) ** 2 + (np.arange(4000) - 2) ** 2
    assert np.array_equal(depth_map(mask, "euclidean"), np.sqrt(exact.astype(np.float32)))
