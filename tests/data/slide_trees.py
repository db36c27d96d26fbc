"""Small slides with masks, made up: pink tissue on white glass, in tiles, with a pyramid."""

import zlib
from pathlib import Path

import numpy as np

MICRONS = 0.25  # along the side of a pixel


def tissue_pixels(seed, rows=640, columns=768):
    """(rows, columns, 3) uint8: white, and a pink rectangle in the middle."""
    rng = np.random.default_rng(seed)
    pixels = np.full((rows, columns, 3), 250, np.uint8)
    inside = pixels[rows // 4 : -rows // 4, columns // 4 : -columns // 4]
    inside[:] = np.array([190, 90, 150]) + rng.integers(-30, 30, inside.shape)
    return pixels


def save_slide(path: Path, pixels, levels=(1, 4), mpp: float | None = MICRONS, **options) -> Path:
    """A tiled TIFF; tile=None makes strips, which OpenSlide does not take."""
    import tifffile

    path.parent.mkdir(parents=True, exist_ok=True)
    given = {"tile": (64, 64), "compression": "zlib", "photometric": "rgb", "metadata": None}
    if mpp is not None:
        given |= {"resolution": (1e4 / mpp, 1e4 / mpp), "resolutionunit": "CENTIMETER"}
    given |= options
    with tifffile.TiffWriter(path) as file:
        for number, down in enumerate(levels):
            kind = {"subfiletype": int(number > 0)} if given["tile"] else {}
            file.write(np.ascontiguousarray(pixels[::down, ::down]), **given, **kind)
    return path


def save_mask(path: Path, labels, **options) -> Path:
    """A tiled TIFF of numbers."""
    return save_slide(path, labels, (1,), None, **{"photometric": "minisblack"} | options)


def blob(rows=640, columns=768, label=255):
    """(rows, columns) uint8: a rectangle of `label`, inside the tissue."""
    labels = np.zeros((rows, columns), np.uint8)
    labels[rows // 3 : rows // 2, columns // 3 : columns // 2] = label
    return labels


def wsi(root: Path, slides=6) -> Path:
    """Slides of 640 x 768 pixels, two for each patient, with masks of a quarter of the size."""
    for number in range(slides):
        name = f"p{number // 2}_{number % 2}"
        save_slide(root / "images" / f"{name}.tif", tissue_pixels(number))
        save_mask(root / "masks" / f"{name}.tif", blob()[::4, ::4])
    return root


def large(root: Path, rows=4096, columns=8192) -> Path:
    """One slide, written tile by tile, its middle tissue; with a mask of the same size."""
    import tifffile

    side, rng = 256, np.random.default_rng(0)
    glass = np.full((side, side, 3), 250, np.uint8)
    pink = (np.array([190, 90, 150]) + rng.integers(-30, 30, (side, side, 3))).astype(np.uint8)

    def tiles(down, outside, inside):
        for top in range(0, rows, side * down):
            for left in range(0, columns, side * down):
                middle = rows // 4 <= top < 3 * rows // 4 and columns // 4 <= left < columns // 2
                yield inside if middle else outside

    coloured = [zlib.compress(tile.tobytes()) for tile in (glass, pink)]
    numbers = [zlib.compress(np.full((side, side), n, np.uint8).tobytes()) for n in (0, 255)]
    given = {"dtype": "uint8", "tile": (side, side), "compression": "zlib", "metadata": None}
    for folder in ("images", "masks"):
        (root / folder).mkdir(parents=True)
    with tifffile.TiffWriter(root / "images" / "large.tif") as file:
        for down in (1, 4):
            shape = rows // down, columns // down, 3
            file.write(
                tiles(down, *coloured),
                shape=shape,
                photometric="rgb",
                subfiletype=int(down > 1),
                **given,
            )
    with tifffile.TiffWriter(root / "masks" / "large.tif") as file:
        file.write(tiles(1, *numbers), shape=(rows, columns), photometric="minisblack", **given)
    return root
