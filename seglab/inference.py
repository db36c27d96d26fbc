"""How a trained network sees a volume that is larger than its patches. MONAI's sliding window."""

from collections.abc import Callable, Sequence

from torch import Tensor

from seglab.errors import ConfigError

Network = Callable[[Tensor], Tensor]


def sliding_window(patch: Sequence[int], overlap: float) -> Callable[[Tensor, Network], Tensor]:
    """(image (B, channels, D, H, W), network) -> logits (B, C, D, H, W).

    The network sees patches; where they overlap, the logits are averaged with Gaussian weights that
    favour each patch's middle (Isensee et al. 2021, nnU-Net).

    Args:
        patch: (D, H, W) in voxels; a smaller volume is padded with 0 and cut back.
        overlap: share of a patch that its neighbour sees too, along each axis.

    Errors: ConfigError where MONAI is missing.
    """
    try:
        from monai.inferers import SlidingWindowInferer
    except ImportError:
        raise ConfigError("dataset.patch needs MONAI: pip install -e '.[volumes]'") from None
    return SlidingWindowInferer(roi_size=list(patch), overlap=overlap, mode="gaussian")
