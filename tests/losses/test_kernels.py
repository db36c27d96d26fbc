"""The Triton kernels of the sums against the form in torch.

check_* run under Triton's interpreter (see tests/triton_tools.py), test_* here, those with the
mark `gpu` where there is one.
"""

import os

import numpy as np
import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf

from seglab import kernels
from seglab.losses import pointwise
from seglab.losses import sums as sums_module
from seglab.losses.sums import gradient_on_cuda, soft_sums, sums_on_cuda, torch_gradient, torch_sums
from tests.triton_tools import compiled, interpreted, no_waiting

from .batches import IGNORE, batch, one_sided, value_and_gradient
from .conftest import LOSSES

CORE = [  # of nothing but the sums
    path
    for path in LOSSES
    if path.stem in ("ce", "combo", "dice", "dice_focal", "dist", "distance_penalty", "focal",
                     "focal_tversky", "iou", "tversky")
]  # fmt: skip

FIELDS = ("inside", "outside", "truth", "pointwise", "valid")
GAMMAS = (None, 0.0, 0.5, 1.0, 2.0, 3.5)
USED = ([True, True, True], [True, False, False], [False, True, False], [False, False, True])


def inputs(seed, channels, shape=(7, 29), images=2, *, weighted=True, **rest):
    logits, target = batch(seed, channels, shape, images, **rest)
    generator = torch.Generator().manual_seed(seed)
    weights = torch.rand(target.shape, generator=generator) if weighted else None
    return logits, target, weights


def random_tables(sums, seed, used=(True, True, True)):
    generator = torch.Generator().manual_seed(seed)
    shapes = (sums[0].shape, sums[1].shape, sums[3].shape)
    made = [torch.randn(shape, generator=generator).to(sums[0].device) for shape in shapes]
    return [table if use else None for table, use in zip(made, used, strict=True)]


def exactly(tensor):
    return None if tensor is None else tensor.double()


def assert_agree(logits, target, weights, gamma, used=(True, True, True)):
    """Sums within 1e-6 and gradient within 5e-6 of float64, relative to the largest."""
    found = sums_on_cuda(logits, target, weights, gamma)
    expected = torch_sums(logits.double(), target, exactly(weights), gamma)
    for name, value, exact in zip(FIELDS, found, expected, strict=True):
        assert value.dtype == torch.float32, name
        assert value.shape == exact.shape, name
        assert (value - exact).abs().max() <= 1e-6 * exact.abs().max(), name
    tables = random_tables(found, 0, used)
    gradient = gradient_on_cuda(logits, target, weights, gamma, *tables)
    exact = torch_gradient(
        logits.double(), target, exactly(weights), gamma, *(exactly(table) for table in tables)
    )
    assert gradient.dtype == logits.dtype
    rounding = {torch.float32: 0, torch.float16: 2**-11, torch.bfloat16: 2**-7}[logits.dtype]
    # The interpreter truncates to bfloat16, where a GPU rounds.
    limit = 5e-6 * exact.abs().max() + rounding * exact.abs() + (2**-25 if rounding else 0)
    assert ((gradient - exact).abs() <= limit).all()
    ignored = (target == IGNORE).unsqueeze(1).expand_as(gradient)
    assert (gradient[ignored] == 0).all()
    return gradient


# Under the interpreter -----------------------------------------------------------------------


@pytest.fixture(autouse=os.environ.get("TRITON_INTERPRET") == "1")
def _interpreter(monkeypatch):
    """Kernels for CPU tensors, whose NumPy does not warn where a GPU does not either."""
    monkeypatch.setattr(kernels, "_runs_on", lambda device: device.type == "cpu")
    with np.errstate(all="ignore"):
        yield


@pytest.mark.parametrize("gamma", GAMMAS)
@pytest.mark.parametrize("channels", [1, 2, 3, 19, 21, 150, 256])
def check_any_number_of_classes(channels, gamma):
    weighted = gamma in GAMMAS[::2]
    assert_agree(*inputs(0, channels, weighted=weighted), gamma)
    if channels < 100:
        assert_agree(*inputs(1, channels, shape=(16, 11), weighted=not weighted), gamma)


@pytest.mark.parametrize("channels", [1, 4])
@pytest.mark.parametrize("shape", [(1, 1), (1, 2), (31, 1), (8, 4), (2, 3, 5), (33, 31), (48, 48)])
@pytest.mark.parametrize("programs", [1, 2048])
def check_any_size_in_any_number_of_programs(monkeypatch, channels, shape, programs):
    from seglab.kernels import sums as triton_form

    monkeypatch.setattr(triton_form, "PROGRAMS", programs)
    monkeypatch.setattr(triton_form, "MOST_TILES", 3)
    assert_agree(*inputs(1, channels, shape, images=3), gamma=2.0)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("used", USED)
@pytest.mark.parametrize("gamma", [None, 0.0, 2.0])
def check_any_choice_of_sums(channels, used, gamma):
    assert_agree(*inputs(2, channels), gamma, used)


@pytest.mark.parametrize("channels", [1, 5])
def check_any_dtype(channels):
    logits, target, weights = inputs(3, channels, shape=(8, 16))
    for dtype in (torch.float16, torch.bfloat16):
        assert_agree(logits.to(dtype), target, weights, 2.0)
        assert_agree(logits[..., :7].to(dtype), target[..., :7], weights[..., :7], 2.0)
    for dtype in (torch.float16, torch.bfloat16, torch.float64):
        assert_agree(logits, target, weights.to(dtype), None)
    for dtype in (torch.uint8, torch.int16, torch.int32):
        assert_agree(logits, target.to(dtype), weights, 0.0)
    for dtype in (torch.int8, torch.bool):  # which have no 255
        assert_agree(logits, target.remainder(2).to(dtype), weights, 0.0)


@pytest.mark.parametrize("channels", [1, 5])
def check_any_strides_without_a_copy(channels):
    from seglab.kernels import sums as triton_form

    logits, target, weights = inputs(4, channels, shape=(16, 48))
    last = logits.contiguous(memory_format=torch.channels_last)
    column = torch.arange(16.0)[:, None].expand(2, 16, 48) / 16  # of weights, with a stride of 0
    for z, y, w in (
        (last, target, weights),
        (last[:, :, 3:, :41], target[:, 3:, :41], weights[:, 3:, :41]),
        (logits.mT.contiguous().mT, target.mT.contiguous().mT, weights),
        (logits[:, :, 2:], target[:, 2:], weights[:, 2:]),
        (logits[..., :32], target[..., :32], weights[..., :32]),
        (logits[..., 5:42], target[..., 5:42], weights[..., 5:42]),
        (logits[..., ::3], target[..., ::3], weights[..., ::3]),
        (logits[:, :, 4:5], target[:, 4:5], weights[:, 4:5]),
        (logits[:1].expand(2, -1, -1, -1), target[:1].expand(2, -1, -1), column),
        (logits.unflatten(2, (4, 4)), target.unflatten(1, (4, 4)), weights.unflatten(1, (4, 4))),
    ):
        gradient = assert_agree(z, y, w, 2.0)
        assert triton_form._planes(z, y, w)[0].data_ptr() == z.data_ptr()
        assert gradient.flatten(2).data_ptr() == gradient.data_ptr()
        is_last = channels > 1 and z.stride(1) == 1
        assert gradient.stride(1) == (1 if is_last else gradient[0, 0].numel())
    z = logits.unflatten(2, (4, 4))[:, :, :, 1:, 1:]  # the one layout that is copied
    y, w = (x.unflatten(1, (4, 4))[:, :, 1:, 1:] for x in (target, weights))
    assert_agree(z, y, w, 2.0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
@pytest.mark.parametrize("channels", [1, 4])
@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def check_extreme_logits(channels, dtype, gamma):
    _, target, weights = inputs(5, channels)
    highest = 6e4 if dtype == torch.float16 else torch.finfo(dtype).max
    for sign in (1, -1):
        logits = (sign * one_sided(target, channels, 1.0)).to(dtype) * highest
        found = sums_on_cuda(logits, target, weights, gamma)
        expected = torch_sums(logits, target, weights, gamma)
        tables = random_tables(found, 0)
        arguments = (logits, target, weights, gamma, *tables)
        for value, exact in zip(
            (*found, gradient_on_cuda(*arguments)),
            (*expected, torch_gradient(*arguments)),
            strict=True,
        ):
            assert value.isfinite().all()
            torch.testing.assert_close(value, exact, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("channels", [1, 4])
def check_sure_predictions_keep_their_digits(channels):
    # 1 - q is about 1e-12 and 1e-17: a difference from 1, or log q, would be 0.
    _, target, weights = inputs(6, channels, ignored=0.0)
    target = target.clamp(max=max(channels, 2) - 1)
    for height in (14.0, 20.0) if channels > 1 else (28.0, 40.0):
        logits = one_sided(target, channels, height)
        for gamma in (0.0, 0.5):
            exact = torch_sums(logits.double(), target, weights.double(), None)
            found = sums_on_cuda(logits, target, weights, gamma)
            torch.testing.assert_close(found[1].double(), exact[1], rtol=1e-5, atol=0)
            per_pixel = max(channels - 1, 1) * np.exp(-height * (2 if channels > 1 else 1))
            expected = weights.double().sum((1, 2)) * per_pixel ** (1 + gamma)
            torch.testing.assert_close(found[3].double(), expected, rtol=1e-4, atol=0)


@pytest.mark.parametrize("channels", [1, 4])
def check_all_pixels_ignored(channels):
    logits, target, weights = inputs(7, channels)
    target = torch.full_like(target, IGNORE)
    found = sums_on_cuda(logits, target, weights, 2.0)
    assert all((field == 0).all() for field in found)
    gradient = gradient_on_cuda(logits, target, weights, 2.0, *random_tables(found, 0))
    assert (gradient == 0).all()


@pytest.mark.parametrize("channels", [1, 3])
def check_an_empty_batch(channels):
    for shape in ((0, channels, 4, 4), (2, channels, 0, 4)):
        logits, target = torch.zeros(shape), torch.zeros(shape[:1] + shape[2:], dtype=torch.uint8)
        found = sums_on_cuda(logits, target, None, 0.0)
        assert [field.shape[0] for field in found] == [shape[0]] * 5
        assert all((field == 0).all() for field in found)
        assert gradient_on_cuda(logits, target, None, 0.0, *random_tables(found, 0)).shape == shape


def check_labels_of_no_class_make_their_image_nan_and_touch_nothing_else():
    from seglab.kernels import sums as triton_form

    logits, target, weights = inputs(8, 3, images=3)
    clean = sums_on_cuda(logits, target, weights, 0.0)
    padded = torch.full((5, 3), torch.nan)  # what lies before and after the tables
    padded[1:4] = 0.5
    for label in (3, 254, 256, -1, -(2**33), 2**32 + 1, 2**40):
        wrong = target.clone()
        wrong[1, 2, 3] = label
        sums = sums_on_cuda(logits, wrong, weights, 0.0)
        for name, value, right in zip(FIELDS, sums, clean, strict=True):
            assert torch.equal(value[[0, 2]], right[[0, 2]]), name
            assert name in ("inside", "truth") or value[1].isnan().all(), name
        room = torch.full((5 * logits[0].numel(),), 7.0)
        grad = room[logits[0].numel() : 4 * logits[0].numel()].view(logits.shape)
        tables = (padded[1:4], padded[1:4], None)
        triton_form.gradient(grad, logits, wrong, weights, None, *tables)
        assert (room[: logits[0].numel()] == 7).all()
        assert (room[4 * logits[0].numel() :] == 7).all()
        assert grad[1, :, 2, 3].isnan().all()
        grad[1, :, 2, 3] = 0
        assert grad.isfinite().all()
    binary = sums_on_cuda(logits[:, :1], wrong, weights, 0.0)  # another label is background
    expected = torch_sums(logits[:, :1], wrong, weights, 0.0)
    torch.testing.assert_close(binary, expected)


def check_a_logit_that_is_not_a_number_is_not_hidden():
    for channels in (1, 3):
        logits, target, weights = inputs(9, channels, ignored=0.0)
        logits[0, 0, 3, 3] = torch.nan
        sums = sums_on_cuda(logits, target, weights, 0.0)
        assert sums[3][0].isnan()
        assert (sums[0] + sums[1])[0].isnan().any()
        assert all(field[1].isfinite().all() for field in sums)


def check_offsets_beyond_32_bits():
    far = torch.empty(2**31 + 2**10, dtype=torch.float16)  # 4 GB, of which 4 pages are touched
    logits = far.as_strided((1, 3, 40), (1, 2**30, 1))
    small, target, weights = inputs(10, 3, shape=(40,), images=1)
    logits.copy_(small)
    assert_agree(logits, target, weights, 0.0)


def check_two_runs_agree_to_the_last_bit():
    arguments = (*inputs(11, 4, shape=(64, 48)), 2.0)
    first, second = sums_on_cuda(*arguments), sums_on_cuda(*arguments)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def check_constants_are_those_of_the_torch_form():
    from seglab.kernels import sums as triton_form

    assert triton_form._LOWEST_LOG.value == pointwise.LOWEST_LOG


@pytest.mark.parametrize("path", CORE, ids=lambda path: path.stem)
@pytest.mark.parametrize("channels", [1, 4])
def check_every_loss_is_the_same_through_the_kernels(monkeypatch, path, channels):
    loss = instantiate(OmegaConf.load(path))
    logits, target = batch(12, channels)
    value, gradient = value_and_gradient(loss, logits, target)
    monkeypatch.setattr(sums_module, "sums_of_batch", sums_on_cuda)
    monkeypatch.setattr(sums_module, "gradient_of_batch", gradient_on_cuda)
    for z in (logits, logits.contiguous(memory_format=torch.channels_last)):
        other, other_gradient = value_and_gradient(loss, z, target)
        torch.testing.assert_close(other, value)
        torch.testing.assert_close(other_gradient, gradient)


# Here ------------------------------------------------------------------------------------------


@pytest.mark.timeout(300)
def test_under_the_interpreter():
    interpreted(__file__)


def test_the_switch_and_the_fallback(monkeypatch):
    device = torch.device("cuda", 0)
    monkeypatch.setattr(kernels, "_runs_on", lambda _: True)
    assert kernels.chosen(device)
    assert not sums_module._kernels_serve(torch.zeros(1, 2, 1, dtype=torch.float64))
    assert not sums_module._kernels_serve(torch.zeros(1, 2000, 1))
    monkeypatch.setenv("SEGLAB_TRITON", "0")
    assert not kernels.chosen(device)
    arguments = (*inputs(0, 3), 2.0)
    found = sums_on_cuda(*arguments)  # CPU tensors, which no compiled kernel takes
    assert all(torch.equal(a, b) for a, b in zip(found, torch_sums(*arguments), strict=True))
    tables = random_tables(found, 0)
    expected = torch_gradient(*arguments, *tables)
    assert torch.equal(gradient_on_cuda(*arguments, *tables), expected)


@pytest.mark.parametrize(
    ("missing", "advice"),
    [
        ("triton", "triton is not installed. Install it."),
        ("compiler", "no C compiler. Install gcc, or name one in CC."),
        ("headers", "/Python.h is missing. Install Python's headers (the package python3."),
        ("capability", None),
    ],
)
def test_a_machine_that_cannot_run_kernels_has_the_torch_form(
    monkeypatch, tmp_path, caplog, missing, advice
):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (9, 0))
    monkeypatch.setattr(kernels, "find_spec", lambda name: name)
    monkeypatch.setattr(kernels.shutil, "which", lambda name: name)
    monkeypatch.setattr(kernels.sysconfig, "get_paths", lambda _: {"include": str(tmp_path)})
    (tmp_path / "Python.h").touch()
    monkeypatch.delenv("CC", raising=False)
    kernels._runs_on.cache_clear()
    assert kernels.chosen("device")
    assert not caplog.records
    if missing == "triton":
        monkeypatch.setattr(kernels, "find_spec", lambda _: None)
    elif missing == "compiler":
        monkeypatch.setattr(kernels.shutil, "which", lambda _: None)
    elif missing == "headers":
        (tmp_path / "Python.h").unlink()
    else:
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (6, 1))
    kernels._runs_on.cache_clear()
    assert [kernels.chosen("device") for _ in range(3)] == [False] * 3
    assert len(caplog.records) == (advice is not None)
    assert advice is None or advice in caplog.text
    kernels._runs_on.cache_clear()


def test_the_headers_are_looked_for_where_triton_does(monkeypatch):
    """`posix_local` is Debian's: its folder has the headers of no Python."""
    monkeypatch.setattr(kernels.sysconfig, "get_default_scheme", lambda: "posix_local")
    assert kernels._scheme() == "posix_prefix"
    monkeypatch.setattr(kernels.sysconfig, "get_default_scheme", lambda: "venv")
    assert kernels._scheme() == "venv"


@pytest.mark.parametrize("layout", ["channels_last", "cropped", "turned", "volume"])
@pytest.mark.parametrize("channels", [1, 3])
def test_operators_describe_any_strides_correctly(channels, layout):
    shape = (3, 4, 5) if layout == "volume" else (6, 8)
    logits, target, weights = inputs(0, channels, shape)
    if layout == "channels_last":
        logits = logits.contiguous(memory_format=torch.channels_last)
    elif layout == "turned":
        logits = logits.mT.contiguous().mT
    else:
        logits, target, weights = logits[..., 1:], target[..., 1:], weights[..., 1:]
    arguments = (logits, target, weights, 2.0)
    checks = ("test_schema", "test_faketensor")
    torch.library.opcheck(sums_module.sums_of_batch, arguments, test_utils=checks)
    arguments += (torch.ones(logits.shape[:2]), None, torch.ones(len(logits)))
    torch.library.opcheck(sums_module.gradient_of_batch, arguments, test_utils=checks)
    expected = torch_gradient(logits.contiguous(), *arguments[1:])
    assert torch.equal(torch_gradient(*arguments), expected)


COMPILED = {  # logits, gamma, dtype of the labels
    "wide": ((2, 19, 64, 64), torch.float16, None, torch.uint8),
    "channels_last": ((2, 19, 64, 64), torch.float16, 2.0, torch.int64),
    "cropped": ((2, 19, 64, 64), torch.bfloat16, 0.0, torch.uint8),
    "odd": ((2, 19, 33, 31), torch.float16, 0.5, torch.int32),
    "few": ((2, 2, 64, 64), torch.float32, 2.0, torch.bool),
    "many": ((2, 150, 32, 32), torch.float16, None, torch.uint8),
    "binary": ((2, 1, 64, 64), torch.float16, 2.0, torch.int64),
    "binary cropped": ((2, 1, 31, 31), torch.float32, 0.5, torch.uint8),
}


@pytest.mark.parametrize("case", COMPILED)
def test_compiles_for_a_gpu(monkeypatch, tmp_path, case):
    pytest.importorskip("triton")
    from seglab.kernels import sums as triton_form

    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    shape, dtype, gamma, label_dtype = COMPILED[case]
    logits = torch.empty(shape, dtype=dtype, device="meta")
    if case == "channels_last":
        logits = logits.to(memory_format=torch.channels_last)
    elif "cropped" in case:
        logits = logits[..., 1:]
    target = torch.empty(logits[:, 0].shape, dtype=label_dtype, device="meta")
    weights = None if gamma == 2.0 else torch.empty_like(target, dtype=torch.float32)

    def call():
        found = triton_form.sums(logits, target, weights, gamma)
        tables = [found[0], None if gamma == 0.5 else found[1], found[3]]
        grad = sums_module.empty_gradient(logits)
        triton_form.gradient(grad, logits, target, weights, gamma, *tables)

    names = ["_softmax_sums", "_softmax_gradient", "_sigmoid_sums", "_sigmoid_gradient"]
    forward, backward = compiled(monkeypatch, triton_form, names, call)
    assert "atom" not in forward + backward  # sums in any order would differ from run to run
    if case in ("wide", "few", "many", "binary"):
        assert "v4" in forward  # 16 bytes of each thread
        assert "v4" in backward


# On a GPU --------------------------------------------------------------------------------------


def large(device, dtype=torch.float16):
    """The thesis's batch, (32, 19, 512, 512): logits, uint8 target, weights."""
    generator = torch.Generator(device).manual_seed(0)
    options = {"device": device, "generator": generator}
    logits = torch.randn(32, 19, 512, 512, dtype=dtype, **options).mul_(2)
    blocks = torch.randint(0, 19, (32, 32, 32), dtype=torch.uint8, **options)
    target = blocks.repeat_interleave(16, 1).repeat_interleave(16, 2)
    target[torch.rand(target.shape, **options) < 0.06] = IGNORE
    return logits, target, torch.rand(target.shape, **options)


@pytest.mark.gpu
@pytest.mark.parametrize("gamma", GAMMAS)
@pytest.mark.parametrize("channels", [1, 2, 3, 19, 21, 150, 256])
def test_gpu_any_number_of_classes(cuda, channels, gamma):
    for shape in ((37, 29), (64, 48)):
        for dtype in (torch.float32, torch.float16, torch.bfloat16):
            logits, target, weights = (x.to(cuda) for x in inputs(0, channels, shape))
            logits = logits.to(dtype)
            assert_agree(logits, target, weights, gamma)
            assert_agree(logits[..., 3:], target[..., 3:], None, gamma)
            last = logits.contiguous(memory_format=torch.channels_last)
            assert_agree(last, target.to(torch.uint8), weights.half(), gamma)


@pytest.mark.gpu
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_gpu_full_size(cuda, layout):
    logits, target, weights = large(cuda)
    logits = logits.contiguous(memory_format=layout)
    found = sums_on_cuda(logits, target, weights, 2.0)
    tables = random_tables(found, 0)
    gradient = gradient_on_cuda(logits, target, weights, 2.0, *tables)
    assert gradient.is_contiguous(memory_format=layout)
    for image in range(0, 32, 8):  # float64 of the whole would take 10 GB
        one = slice(image, image + 1)
        piece = (logits[one].double(), target[one], weights[one].double(), 2.0)
        for name, value, exact in zip(FIELDS, found, torch_sums(*piece), strict=True):
            torch.testing.assert_close(value[one].double(), exact, rtol=2e-6, atol=0, msg=name)
        exact = torch_gradient(*piece, *(table[one].double() for table in tables))
        error = (gradient[one].double() - exact).abs()
        assert (error <= 5e-6 * exact.abs().max() + 2**-11 * exact.abs() + 2**-25).all()
    again = sums_on_cuda(logits, target, weights, 2.0)
    assert all(torch.equal(a, b) for a, b in zip(found, again, strict=True))
    assert torch.equal(gradient, gradient_on_cuda(logits, target, weights, 2.0, *tables))


@pytest.mark.gpu
@pytest.mark.parametrize("path", CORE, ids=lambda path: path.stem)
def test_gpu_losses_agree_with_the_torch_form_without_waiting(cuda, monkeypatch, path):
    loss = instantiate(OmegaConf.load(path))
    for channels in (1, 4):
        logits, target = (x.to(cuda) for x in batch(0, channels, (64, 64)))
        value_and_gradient(loss, logits, target)  # compiles
        with no_waiting():
            value, gradient = value_and_gradient(loss, logits, target)
        compiled_loss = torch.compile(loss, backend="aot_eager", fullgraph=True)
        torch.testing.assert_close(compiled_loss(logits, target), value)
        with monkeypatch.context() as patch:
            patch.setenv("SEGLAB_TRITON", "0")
            expected, expected_gradient = value_and_gradient(loss, logits, target)
        torch.testing.assert_close(value, expected)
        limit = 1e-5 * float(expected_gradient.abs().max())
        torch.testing.assert_close(gradient, expected_gradient, rtol=0, atol=limit)


@pytest.mark.gpu
def test_gpu_dist_takes_the_memory_of_its_gradient(cuda):
    from seglab.losses.dist import Dist

    logits, target, weights = large(cuda)
    logits.requires_grad_()
    loss = Dist("euclidean", "mean")
    torch.autograd.grad(loss(logits, target, weights), logits)  # compiles
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    torch.autograd.grad(loss(logits, target, weights), logits)
    torch.cuda.synchronize()
    units = (torch.cuda.max_memory_allocated() - before) / (logits.numel() * 2)
    assert units <= 1.1


@pytest.mark.gpu
def test_gpu_a_label_of_no_class_is_nan_and_harms_nothing(cuda):
    logits, target, weights = (x.to(cuda) for x in inputs(0, 19))
    target[1, 0, 0] = 2**40
    sums = soft_sums(logits.requires_grad_(), target, weights, 0.0)
    (gradient,) = torch.autograd.grad(sums.outside[0].sum() + sums.pointwise.sum(), logits)
    torch.cuda.synchronize()
    assert sums.pointwise.isnan().tolist() == [False, True]
    assert gradient[0].isfinite().all()


@pytest.mark.gpu
@pytest.mark.parametrize("channels", [1, 3])
def test_gpu_a_logit_that_is_not_a_number_is_not_hidden(cuda, channels):
    logits, target, weights = (x.to(cuda) for x in inputs(0, channels, ignored=0.0))
    logits[0, 0, 3, 3] = torch.nan  # maxima on a GPU pass over it
    for gamma in (0.0, 0.5, 2.0):
        sums = sums_on_cuda(logits, target, weights, gamma)
        assert sums[3].isnan().tolist() == [True, False]
        assert (sums[0] + sums[1])[0].isnan().any()
