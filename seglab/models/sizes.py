"""Which sizes of images a network takes, found out without computing anything. Any network."""

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from seglab.errors import ConfigError

STRIDE = (
    32  # of most encoders: where a network does not say, its sizes are looked for in such steps
)


def check_size(
    model: nn.Module, shape: Sequence[int], classes: int | None = None, channels: int = 3
) -> None:
    """Tries one image of (channels, H, W), or one volume of (channels, D, H, W).

    Args:
        model: any network.
        shape: (H, W) in pixels, or (D, H, W) in voxels.
        classes: the channels that the output must have; None: not looked at.
        channels: of the image.

    Errors: ConfigError, with sizes near it that will do, where the network refuses the size or
        gives back another.
    """
    reason = _refusal(model, shape, channels)
    if reason is not None:
        near = [_by(size) for size in _sizes_near(model, shape, channels)]
        advice = f"Sizes near it that will do: {', '.join(near)}. " if near else ""
        flat = len(shape) == 2
        raise ConfigError(
            f"{_by(shape)} {'pixels' if flat else 'voxels'}: the network cannot take "
            f"{'images' if flat else f'volumes of {channels} channel(s)'} of this size. {advice}"
            f"Set {'dataset.size and dataset.pad' if flat else 'dataset.patch'}, or take another "
            f"model{'' if flat else ' or other model.in_channels'}. ({reason})"
        )
    found = _output(model, (1, channels, *shape)).shape[1]
    if classes is not None and found != classes:
        raise ConfigError(
            f"model: the network gives {found} channels, and the data set has {classes} "
            "(one for each class, or one for a binary task)."
        )


def minimum_batch(model: nn.Module, shape: Sequence[int], channels: int = 3) -> int:
    """The smallest batch per device that can be trained on: 1, or 2.

    Two where batch normalisation sees a single value per channel, which has no variance: after
    pooling over the whole image (DeepLabV3, DeepLabV3Plus, PSPNet), or where the deepest features
    of a small image are one pixel.
    """
    try:
        _output(model, (1, channels, *shape), training=True)
    except ValueError as error:
        return 2 if "more than 1 value per channel" in str(error) else 1
    except Exception:  # a size that it cannot take at all is told by check_size
        return 1
    return 1


def _refusal(model: nn.Module, shape: Sequence[int], channels: int) -> str | None:
    """Why the network does not map (channels, *shape) to (C, *shape); None if it does."""
    try:
        output = _output(model, (1, channels, *shape))
    except Exception as error:  # whatever a network says to a size that it cannot take
        return str(error).splitlines()[0] if str(error) else type(error).__name__
    if not isinstance(output, Tensor) or output.ndim != 2 + len(shape) or output.shape[0] != 1:
        return "its output is not one (B, C, H, W) tensor"
    found = tuple(output.shape[2:])
    return None if found == tuple(shape) else f"its output has {_by(found)} pixels"


def _output(model: nn.Module, shape: tuple[int, ...], *, training: bool = False) -> Any:
    """The model's output for an image, without values where the network can do without.

    The model itself, its statistics and the stream of random numbers stay as they were.
    """
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        try:
            return _without_values(model).train(training)(torch.empty(shape, device="meta"))
        except Exception as error:
            if "meta" not in str(error).lower():  # refused: not for want of values
                raise
            device = next((p.device for p in model.parameters()), torch.device("cpu"))
            return copy.deepcopy(model).train(training)(torch.zeros(shape, device=device))


def _without_values(model: nn.Module) -> nn.Module:
    """A copy on the meta device, which knows shapes and holds no numbers."""
    memo: dict[int, Any] = {
        id(p): nn.Parameter(torch.empty_like(p, device="meta"), p.requires_grad)
        for p in model.parameters()
    }
    memo |= {id(b): torch.empty_like(b, device="meta") for b in model.buffers()}
    return copy.deepcopy(model, memo)


def _sizes_near(model: nn.Module, shape: Sequence[int], channels: int) -> list[tuple[int, ...]]:
    """One size below and one above that the network takes, if there are any near."""
    stride = int(getattr(getattr(model, "encoder", model), "output_stride", STRIDE))
    down = [tuple(side // stride * stride - i * stride for side in shape) for i in range(4)]
    up = [tuple(-(-side // stride) * stride + i * stride for side in shape) for i in range(4)]
    found = []
    for candidates in (down, up):
        sizes = (size for size in candidates if min(size) > 0 and size != tuple(shape))
        taken = (size for size in sizes if _refusal(model, size, channels) is None)
        found.append(next(taken, None))
    return list(dict.fromkeys(size for size in found if size is not None))


def _by(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape))
