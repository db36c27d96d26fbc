"""What is drawn anew for each sample of each epoch: patches of volumes, and augmentation. No torch.

Every draw comes from a generator that is a function of (seed, epoch, number of the sample) alone:
workers, devices and a resumed run neither change the stream nor repeat it. albumentations 2.0.8 by
itself repeats its stream in every worker and every epoch; and its `set_random_seed` gives all steps
of a pipeline one seed, so that two flips always happen together. Here each step has its own.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import cv2
import numpy as np

from seglab.data.preprocess import A  # the one place that imports it, without a call to the network
from seglab.data.source import IGNORE
from seglab.errors import ConfigError

EVALUATION_STREAM = (0, 6)  # of what is drawn once for an evaluated image, whatever the seed
Draw = Callable[..., tuple[np.ndarray, ...]]  # rng, image, mask, more masks -> the same, drawn
# of albumentations 2.0.8: what puts 0 into a mask whatever its arguments, and what does not
INSTEAD = {
    A.CoarseDropout3D: "CoarseDropout",
    A.FrequencyMasking: "XYMasking",
    A.TimeMasking: "XYMasking",
    A.GridElasticDeform: "ElasticTransform",
}
# and what does so in all slices of a volume but four: OpenCV fills no more channels than these
WARPS = (
    A.ElasticTransform,
    A.GridDistortion,
    A.OpticalDistortion,
    A.Perspective,
    A.PiecewiseAffine,
    A.ThinPlateSpline,
)


class Augmentation:
    """Section `augmentation`: steps of albumentations for training and for evaluated images.

    Args:
        train: drawn anew for each sample in each epoch.
        evaluation: of validation and test images, drawn once: the same for every epoch, seed and
            loss.

    Errors: ConfigError for a step that would put a class into the mask where there is no image.
    """

    def __init__(
        self, train: Sequence[A.BasicTransform], evaluation: Sequence[A.BasicTransform]
    ) -> None:
        self.train = Steps(train) if train else None
        self.evaluation = Steps(evaluation) if evaluation else None
        self._named = [
            *_with_keys("augmentation.train", train),
            *_with_keys("augmentation.evaluation", evaluation),
        ]
        for key, step in self._named:
            _refuse_filled_masks(key, step)

    def refuse_for_volumes(self) -> None:
        """Errors: ConfigError for a step that would fill the masks of volumes with class 0."""
        for key, step in self._named:
            if isinstance(step, WARPS) and step.border_mode == cv2.BORDER_CONSTANT:
                raise ConfigError(
                    f"{key}: {type(step).__name__} puts 0 into most slices of a volume's mask, "
                    f"whatever its fill_mask. Take Affine, or {key}.border_mode="
                    f"{cv2.BORDER_REFLECT_101} (OpenCV's BORDER_REFLECT_101)."
                )


class Steps:
    """A pipeline of albumentations on an image (H, W, 3) or a volume (D, H, W, channels).

    A volume's slices all get the same transform. Masks take labels, never mix them.
    """

    def __init__(self, steps: Sequence[A.BasicTransform]) -> None:
        self.compose = A.Compose(
            list(steps),
            mask_interpolation=cv2.INTER_NEAREST,
            additional_targets={"mask2": "mask", "mask3d2": "mask3d"},
        )

    def __call__(
        self, rng: np.random.Generator, image: np.ndarray, *masks: np.ndarray
    ) -> tuple[np.ndarray, ...]:
        """The image and its masks (one, or two), transformed alike."""
        for step in self.compose.transforms:
            _seed(step, rng)
        flat = image.ndim == 3
        names = ("image", "mask", "mask2") if flat else ("volume", "mask3d", "mask3d2")
        given = dict(zip(names, (image, *masks), strict=False))
        done = self.compose(**{name: np.ascontiguousarray(value) for name, value in given.items()})
        return tuple(done[name] for name in given)


class Patch:
    """A box of one shape out of a volume, at random; where the volume is smaller, padded.

    Args:
        shape: (D, H, W) in voxels.
        foreground: probability that the box lies around a voxel of a class other than 0, the class
            and the voxel drawn evenly (Isensee et al. 2021, nnU-Net, take one third).
    """

    def __init__(self, shape: Sequence[int], foreground: float) -> None:
        self.shape, self.foreground = tuple(shape), foreground

    def __call__(
        self, rng: np.random.Generator, image: np.ndarray, *masks: np.ndarray
    ) -> tuple[np.ndarray, ...]:
        """(D, H, W, channels) and masks (D, H, W), the first of classes -> boxes of them.

        Padding follows at the end of each axis: image 0, masks IGNORE.
        """
        wanted = rng.random() < self.foreground
        centre = _voxel_of_a_class(rng, masks[0]) if wanted else None
        rooms = [max(n - side, 0) for n, side in zip(masks[0].shape, self.shape, strict=True)]
        if centre is None:
            starts = [int(rng.integers(room + 1)) for room in rooms]
        else:
            starts = [
                min(max(place - side // 2, 0), room)
                for place, side, room in zip(centre, self.shape, rooms, strict=True)
            ]
        box = tuple(slice(a, a + side) for a, side in zip(starts, self.shape, strict=True))
        return self._padded(image[box], 0), *(self._padded(mask[box], IGNORE) for mask in masks)

    def _padded(self, part: np.ndarray, value: int) -> np.ndarray:
        missing = [side - n for side, n in zip(self.shape, part.shape, strict=False)]
        widths = [(0, n) for n in missing] + [(0, 0)] * (part.ndim - len(missing))
        return np.pad(part, widths, constant_values=value)


class Chain:
    """One draw after the other."""

    def __init__(self, *draws: Draw) -> None:
        self.draws = draws

    def __call__(
        self, rng: np.random.Generator, image: np.ndarray, *masks: np.ndarray
    ) -> tuple[np.ndarray, ...]:
        """What the last of them gives."""
        drawn: tuple[np.ndarray, ...] = (image, *masks)
        for draw in self.draws:
            drawn = draw(rng, *drawn)
        return drawn


def _voxel_of_a_class(rng: np.random.Generator, mask: np.ndarray) -> tuple[int, ...] | None:
    """A voxel of a class other than 0; None where there is none."""
    flat = np.asarray(mask).reshape(-1, mask.shape[-1])
    histogram = cv2.calcHist([flat], [0], None, [IGNORE + 1], [0, IGNORE + 1]).ravel()
    present = [label for label in np.flatnonzero(histogram) if label not in (0, IGNORE)]
    if not present:
        return None
    places = np.flatnonzero(flat == present[int(rng.integers(len(present)))])
    chosen = places[int(rng.integers(len(places)))]
    return tuple(int(i) for i in np.unravel_index(chosen, mask.shape))


def _seed(step: Any, rng: np.random.Generator) -> None:
    """A seed of its own for a step and for each step in it."""
    step.set_random_seed(int(rng.integers(1 << 32)))
    for inner in _inside(step):
        _seed(inner, rng)


def _inside(step: Any) -> Sequence[Any]:
    return step.transforms if isinstance(step, A.BaseCompose) else ()


def _with_keys(key: str, steps: Sequence[Any]) -> Iterator[tuple[str, Any]]:
    """Each step and each step in it, with its key."""
    for number, step in enumerate(steps):
        own = f"{key}[{number}]"
        yield own, step
        yield from _with_keys(f"{own}.transforms", _inside(step))


def _refuse_filled_masks(key: str, step: Any) -> None:
    instead = INSTEAD.get(type(step))
    if instead is not None:
        raise ConfigError(
            f"{key}: {type(step).__name__} puts 0 into the mask, and has no say in it. "
            f"Take {instead}."
        )
    option = "mask_drop_value" if isinstance(step, A.PixelDropout) else "fill_mask"
    fill = getattr(step, option, None)  # None, where a step allows it, leaves the mask alone
    mode = getattr(step, "border_mode", cv2.BORDER_CONSTANT)
    fills = mode == cv2.BORDER_CONSTANT and getattr(step, "pad_if_needed", True)
    if fills and fill not in (None, IGNORE):
        raise ConfigError(
            f"{key}.{option}={fill}: what a step puts into the mask where it takes away the "
            f"image, or looks outside it, is of no class. Set {key}.{option}={IGNORE}."
        )
