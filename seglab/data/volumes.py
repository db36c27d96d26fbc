"""How a NIfTI file becomes an array: one orientation, one order of the axes. Imports no torch.

A file is turned to the closest canonical orientation (nibabel's RAS+: the first axis runs to the
patient's right, the second to the front, the third to the head), by its affine and without
interpolation. Then the axis across the slices comes first, and the other two follow as rows and
columns, rows from front to back or from head to feet, so that a slice shows as one looks at it:

    axial      depth S, rows A (turned round), columns R
    coronal    depth A, rows S (turned round), columns R
    sagittal   depth R, rows S (turned round), columns A

Shape letters: D slices, H rows, W columns, C channels (modalities).
"""

import threading
from collections import Counter, OrderedDict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from seglab.data.reading import FileFaults
from seglab.data.source import IGNORE
from seglab.errors import ConfigError

AXES = {"sagittal": 0, "coronal": 1, "axial": 2}  # the axis of RAS across the slices
ALIKE = 1e-3  # spacings that differ by less than this share are the same
MILLIMETRES = {"meter": 1e3, "micron": 1e-3}  # in a unit that a header may name; others are mm
OFF = 0.5  # image and mask whose corners lie further apart than this share of a voxel do not match


@dataclass(frozen=True)
class Grid:
    """Where the voxels of a file lie, once it is turned to RAS+.

    Attributes:
        shape: voxels along R, A and S.
        affine: (4, 4), from voxel numbers to millimetres.
        turns: (3, 2), nibabel's orientation of the file as it is stored.
        components: numbers in a voxel; 1 of a file with three axes.
    """

    shape: tuple[int, int, int]
    affine: np.ndarray
    turns: np.ndarray
    components: int

    @property
    def spacing(self) -> np.ndarray:
        """(3,) millimetres from voxel to voxel along R, A and S."""
        return np.sqrt((self.affine[:3, :3] ** 2).sum(axis=0))

    def depth_axis(self, axis: str) -> int:
        """Which of R, A, S goes first: the named one; of auto, that of the largest spacing.

        Of several with that spacing the last, so that equal spacings give axial slices.
        """
        if axis != "auto":
            return AXES[axis]
        spacing = self.spacing
        return int(np.flatnonzero(spacing >= spacing.max() * (1 - ALIKE))[-1])

    def order(self, axis: str) -> tuple[int, int, int]:
        """Which of R, A, S are D, H and W."""
        first = self.depth_axis(axis)
        rows, columns = (k for k in (2, 1, 0) if k != first)
        return first, rows, columns

    def corners(self) -> np.ndarray:
        """(8, 3) millimetres: the centres of the voxels in the corners."""
        ends = [(0, length - 1) for length in self.shape]
        numbers = np.stack(np.meshgrid(*ends, indexing="ij"), axis=-1).reshape(8, 3)
        return numbers @ self.affine[:3, :3].T + self.affine[:3, 3]


class Recent:
    """Keeps the last few results, each computed once however many threads ask for it.

    A FileFaults counts as a result. Empty in another process.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self._lock = threading.Lock()
        self._kept: OrderedDict[Hashable, Any] = OrderedDict()

    def __reduce__(self) -> tuple[type, tuple]:
        return type(self), (self.size,)

    def get(self, key: Hashable, compute: Callable[[], np.ndarray]) -> np.ndarray:
        """The kept result for `key`, else compute(). Errors: those of `compute`."""
        with self._lock:
            if key not in self._kept:
                try:
                    self._kept[key] = compute()
                except FileFaults as error:
                    self._kept[key] = error
                while len(self._kept) > self.size:
                    self._kept.popitem(last=False)
            self._kept.move_to_end(key)
            found = self._kept[key]
        if isinstance(found, FileFaults):
            raise FileFaults(found.faults)
        return found


def require_nibabel() -> Any:
    """The module. Errors: ConfigError where it is not installed."""
    try:
        import nibabel
    except ImportError as error:
        raise ConfigError(
            "NIfTI files are read by nibabel, which is not installed: pip install -e '.[volumes]'"
        ) from error
    return nibabel


def read_grid(path: Path) -> Grid:
    """From the header alone.

    Errors: FileFaults where the file is missing, empty, not NIfTI, or no volume.
    """
    return _opened(path)[1]


def read_image(paths: Sequence[Path], channels: int, axis: str) -> np.ndarray:
    """(D, H, W, channels) float32, as stored: files of one channel each, or one that has all.

    Args:
        axis: across the slices: auto, sagittal, coronal or axial.

    Errors: FileFaults as for `read_grid`, for a truncated file, numbers that are not finite, and
    where the channels are not as many, or lie elsewhere.
    """
    first: Grid | None = None
    planes = []
    for path in paths:
        image, grid = _opened(path)
        wanted = channels if len(paths) == 1 else 1
        if grid.components != wanted:
            reason = f"{_some(grid.components, 'channel')}, dataset.json says {wanted}"
            raise FileFaults([(path, reason)])
        if first is None:
            first = grid
        elif (apart := _apart(grid, first)) is not None:
            raise FileFaults([(path, f"{apart} of {paths[0].name}")])
        data = _turned(path, image, grid, lambda file: file.get_fdata("unchanged", np.float32))
        wrong = np.count_nonzero(~np.isfinite(data))
        if wrong:
            raise FileFaults([(path, f"{_some(wrong, 'voxel')} not finite (NaN or infinite)")])
        planes.append(data if data.ndim == 4 else data[..., None])
    assert first is not None
    volume = planes[0] if len(planes) == 1 else np.concatenate(planes, axis=-1)
    return np.ascontiguousarray(_laid_out(volume, first.order(axis)))


def read_labels(path: Path, image: Path, axis: str, *, trust_affine: bool) -> np.ndarray:
    """(D, H, W) label numbers, whole, of the type stored, laid out as `read_image` does the image.

    Args:
        image: the first file of the image.
        trust_affine: the mask must lie where the image lies; else its own affine is not looked
            at, and it is taken voxel by voxel as it is stored.

    Errors: FileFaults as for `read_image`, for numbers that are not whole, and for a mask of
    another shape or at another place than the image.
    """
    file, grid = _opened(path)
    if grid.components != 1:
        raise FileFaults([(path, f"{grid.components} labels in each voxel, expected one")])
    on = read_grid(image)
    if trust_affine:
        apart = _apart(grid, on)
        if apart is not None:
            reason = f"{apart} of its image {image.name}"
            more = ". If it fits voxel by voxel: dataset.label_affine=ignored"
            raise FileFaults([(path, reason + more * (grid.shape == on.shape))])
    else:
        stored = _stored_shape(on)
        if file.shape[:3] != stored:
            raise FileFaults([(path, f"{_by(file.shape[:3])} voxels, its image {_by(stored)}")])
        grid = on
    labels = _turned(path, file, grid, lambda file: np.asarray(file.dataobj))
    if labels.dtype.kind == "f":
        wrong = np.count_nonzero(~(np.isfinite(labels) & (labels == np.round(labels))))
        if wrong:
            raise FileFaults([(path, f"{_some(wrong, 'voxel')} without a whole number as label")])
    return np.ascontiguousarray(_laid_out(labels, on.order(axis)))


def classes_of(path: Path, labels: np.ndarray, num_labels: int, ignore: int | None) -> np.ndarray:
    """Label numbers -> uint8, 0 .. num_labels - 1 as they are, `ignore` as IGNORE.

    Errors: FileFaults naming `path` and the labels that are neither.
    """
    allowed = [*range(num_labels), *([] if ignore is None else [ignore])]
    numbers: Counter[float] = Counter()
    for plane in labels:  # one at a time: the whole would take many times its memory
        values, counts = np.unique(plane[~np.isin(plane, allowed)], return_counts=True)
        numbers.update(dict(zip(values.tolist(), counts.tolist(), strict=True)))
    if numbers:
        stray = sorted(numbers.items())
        listed = ", ".join(f"{v:.0f} ({_some(n, 'voxel')})" for v, n in stray[:10])
        more = ", ..." * (len(stray) > 10)
        reason = f"label{'s' * (len(stray) > 1)} {listed}{more} not in dataset.json"
        raise FileFaults([(path, reason)])
    found = labels.astype(np.uint8)
    if ignore is not None:
        found[labels == ignore] = IGNORE
    return found


def zscore(volume: np.ndarray) -> np.ndarray:
    """(D, H, W, C) float32 -> the same: (x - mean) / std of each channel's voxels that are not 0.

    Zero stays zero: it is the background of an MRI. A channel of one value becomes zero.
    """
    found = np.zeros_like(volume)
    for channel in range(volume.shape[-1]):
        there = volume[..., channel] != 0
        values = volume[..., channel][there].astype(np.float64)
        std = values.std() if len(values) else 0.0
        if std > 0:
            found[..., channel][there] = (values - values.mean()) / std
    return found


def windowed(volume: np.ndarray, low: float, high: float) -> np.ndarray:
    """float32 -> float32 in 0 .. 1: `low` and below become 0, `high` and above 1."""
    found = volume - np.float32(low)
    found /= np.float32(high - low)
    return np.clip(found, 0, 1, out=found)


def to_percentiles(volume: np.ndarray, low: float, high: float) -> np.ndarray:
    """(D, H, W, C) float32 -> 0 .. 1, from one percentile of each channel to another.

    The percentiles are those of its voxels that are not 0. A channel of one value becomes zero.
    """
    found = np.zeros_like(volume)
    for channel in range(volume.shape[-1]):
        values = volume[..., channel]
        there = values[values != 0]
        if len(there):
            start, end = np.percentile(there, (low, high))
            if end > start:
                found[..., channel] = windowed(values, start, end)
    return found


def resampled(array: np.ndarray, shape: tuple[int, int, int], *, labels: bool) -> np.ndarray:
    """(d, h, w) or (d, h, w, C) -> (D, H, W, ...) over the same box, the voxels' edges kept.

    Labels take the nearest voxel, images are interpolated linearly.
    """
    from scipy.ndimage import zoom

    if array.shape[:3] == shape:
        return array
    factors = [new / old for new, old in zip(shape, array.shape[:3], strict=True)]
    factors += [1.0] * (array.ndim - 3)
    found = zoom(array, factors, order=0 if labels else 1, mode="nearest", grid_mode=True)
    assert found.shape[:3] == shape, (found.shape, shape)
    return found


def _opened(path: Path) -> tuple[Any, Grid]:
    """The file, not yet read beyond its header, and its grid. Errors: FileFaults."""
    nibabel = require_nibabel()
    try:
        image = nibabel.load(path)
        shape = tuple(int(length) for length in image.shape)
        while len(shape) > 3 and shape[-1] == 1:
            shape = shape[:-1]
        if image.get_data_dtype().kind not in "iuf":
            raise FileFaults([(path, f"voxels of type {image.get_data_dtype()}, expected numbers")])
        if len(shape) not in (3, 4) or not all(shape):
            raise FileFaults([(path, f"{_by(shape)} voxels, expected three axes, or four")])
        turns = nibabel.io_orientation(image.affine)
        if not np.isfinite(image.affine).all() or np.isnan(turns).any():
            raise FileFaults([(path, "its affine does not say where the voxels lie (mend it)")])
        affine = image.affine @ nibabel.orientations.inv_ornt_aff(turns, shape[:3])
        affine[:3] *= MILLIMETRES.get(image.header.get_xyzt_units()[0], 1.0)
    except (FileFaults, MemoryError):
        raise
    except Exception as error:  # a decoder may raise anything at a hostile file
        raise FileFaults([(path, _reason(path, error))]) from error
    lengths = [0, 0, 0]
    for stored, (canonical, _) in enumerate(turns):
        lengths[int(canonical)] = shape[stored]
    components = shape[3] if len(shape) == 4 else 1
    return image, Grid((lengths[0], lengths[1], lengths[2]), affine, turns, components)


def _turned(path: Path, image: Any, grid: Grid, read: Callable[[Any], Any]) -> np.ndarray:
    """What read(image) gives, axes R, A, S (and C, if several). Errors: FileFaults."""
    nibabel = require_nibabel()
    try:
        data = read(image)
    except MemoryError:
        raise
    except Exception as error:
        raise FileFaults([(path, _reason(path, error))]) from error
    data = data.reshape(data.shape[:3] + ((grid.components,) if grid.components > 1 else ()))
    return nibabel.apply_orientation(data, grid.turns)


def _laid_out(array: np.ndarray, order: tuple[int, int, int]) -> np.ndarray:
    """Axes R, A, S (, C) -> D, H, W (, C), the rows turned round."""
    return np.flip(array.transpose(*order, *range(3, array.ndim)), axis=1)


def _stored_shape(grid: Grid) -> tuple[int, ...]:
    return tuple(grid.shape[int(canonical)] for canonical, _ in grid.turns)


def _apart(grid: Grid, other: Grid) -> str | None:
    """How two grids differ: shape, spacing, or a place more than OFF of a voxel away; else None."""
    if grid.shape != other.shape:
        return f"{_by(grid.shape)} voxels (along R, A, S), not the {_by(other.shape)}"
    if not np.allclose(grid.spacing, other.spacing, rtol=ALIKE):
        return f"voxels of {_mm(grid.spacing)} mm, not the {_mm(other.spacing)} mm"
    away = np.linalg.norm(grid.corners() - other.corners(), axis=1).max()
    if away > OFF * other.spacing.min():
        return f"lies {away:.3g} mm from the place"
    return None


def _reason(path: Path, error: Exception) -> str:
    match error:
        case FileNotFoundError():
            return "missing"
        case _ if path.is_file() and path.stat().st_size == 0:
            return "empty file (0 bytes)"
        case _ if type(error).__name__ == "ImageFileError":
            return "not a NIfTI file, or cut off in its header"
        case OSError() if error.strerror:
            return f"cannot be opened: {error.strerror}"
        case _:
            return f"damaged or truncated: {error}"


def _some(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _by(shape: Sequence[int]) -> str:
    return " x ".join(str(length) for length in shape)


def _mm(spacing: np.ndarray) -> str:
    return " x ".join(f"{length:.4g}" for length in spacing)
