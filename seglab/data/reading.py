"""How a file becomes an array: one way, for the check, the preparation and the training alike.

Pillow decodes: it refuses a truncated JPEG, where OpenCV fills the rest with grey, and it neither
turns an image by its EXIF tag nor turns a palette into luminance. What could be misread is refused.
"""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageFile, UnidentifiedImageError

from seglab.errors import DataError

EXIF_ORIENTATION = 274  # the tag; 1 is upright


class FileFaults(DataError):
    """Files that cannot be read as what they should be: a path and a reason for each."""

    def __init__(self, faults: Sequence[tuple[Path, str]]) -> None:
        self.faults = tuple(faults)
        super().__init__("\n".join(f"{path}: {reason}" for path, reason in self.faults))

    def __reduce__(self) -> tuple[type, tuple]:  # a worker process hands it to its parent
        return type(self), (self.faults,)


def read_rgb(path: Path, to_8_bits: Callable[[np.ndarray], np.ndarray] | None = None) -> np.ndarray:
    """(H, W, 3) uint8 RGB of an 8 bit RGB or grey image file.

    Args:
        to_8_bits: (H, W) uint16 -> (H, W) uint8, for 16 bit grey files; None refuses these.

    Errors: FileFaults where the file is missing, empty, truncated, not an image, of another
    depth, or carries an EXIF rotation.
    """
    image = _decoded(path)
    orientation = image.getexif().get(EXIF_ORIENTATION, 1)
    if orientation != 1:
        raise FileFaults(
            [
                (
                    path,
                    f"EXIF orientation {orientation}: viewers turn it, its mask is not turned. "
                    "Save it upright, without the tag",
                )
            ]
        )
    if image.mode == "I;16" and to_8_bits is not None:
        return np.repeat(to_8_bits(np.array(image))[..., None], 3, axis=-1)
    if image.mode not in ("RGB", "L"):
        raise FileFaults([(path, f"mode {image.mode}, expected 8 bit RGB or grey")])
    return np.array(image if image.mode == "RGB" else image.convert("RGB"))


def read_labels(path: Path) -> np.ndarray:
    """(H, W) uint8, the numbers as stored, of an 8 bit grey file (a label map).

    Errors: FileFaults as for `read_rgb`, and for a palette, 16 bit, 1 bit or colour file, whose
    numbers a conversion would change.
    """
    image = _decoded(path)
    if image.mode != "L":
        reason = f"{_kind(image.mode)} mask (mode {image.mode}), expected 8 bit grey"
        raise FileFaults([(path, f"{reason}. Its labels would be misread")])
    return np.array(image)


def read_stencil(path: Path) -> np.ndarray:
    """(H, W) bool, True where not black, of a black and white file with 1 or 3 channels of 8 bits.

    Errors: FileFaults as for `read_labels`.
    """
    image = _decoded(path)
    if image.mode not in ("L", "RGB", "1"):
        reason = f"{_kind(image.mode)} mask (mode {image.mode}), expected 8 bit grey or RGB"
        raise FileFaults([(path, f"{reason}. Its labels would be misread")])
    return np.array(image.getchannel(0)) != 0


def read_size(path: Path) -> tuple[int, int]:
    """(H, W) from the header of an image file. Errors: FileFaults as for `read_rgb`."""
    try:
        with Image.open(path) as image:
            return image.height, image.width
    except Exception as error:
        raise FileFaults([(path, _reason(path, error))]) from error


def refuse_labels(path: Path, labels: np.ndarray, allowed: Iterable[int], meaning: str) -> None:
    """Raises FileFaults naming the labels, and how many pixels have them, outside `allowed`."""
    wrong = stray_labels(np.bincount(labels.ravel(), minlength=256), allowed)
    if wrong:
        raise FileFaults([(path, f"{wrong} outside {meaning}")])


def stray_labels(histogram: np.ndarray, allowed: Iterable[int]) -> str:
    """'labels 7 (12 pixels), 9 (1 pixel)' for the entries outside `allowed`; '' if there are none.

    Args:
        histogram: (256,) pixels with each label.
    """
    stray = histogram.copy()
    stray[list(allowed)] = 0
    found = [f"{k} ({stray[k]} pixel{'s' * bool(stray[k] > 1)})" for k in np.flatnonzero(stray)]
    listed = found[:10] + ["..."] * (len(found) > 10)
    return f"label{'s' * (len(found) > 1)} {', '.join(listed)}" if found else ""


def _decoded(path: Path) -> Image.Image:
    """The fully decoded image. Errors: FileFaults."""
    ImageFile.LOAD_TRUNCATED_IMAGES = False  # whatever another library has set
    try:
        with Image.open(path) as image:
            image.load()
    except MemoryError:
        raise
    except Exception as error:  # a decoder may raise anything at a hostile file
        raise FileFaults([(path, _reason(path, error))]) from error
    return image


def _reason(path: Path, error: Exception) -> str:
    match error:
        case FileNotFoundError():
            return "missing"
        case UnidentifiedImageError() if path.stat().st_size == 0:
            return "empty file (0 bytes)"
        case UnidentifiedImageError():
            return "not an image"
        case OSError() if error.strerror:
            return f"cannot be opened: {error.strerror}"
        case _:
            return f"damaged or truncated: {error}"


def _kind(mode: str) -> str:
    if mode.startswith("I"):
        return "16 bit"
    return {"P": "palette", "1": "1 bit", "F": "float"}.get(mode, "colour")
