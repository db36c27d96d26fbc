"""Files of slides and of their masks: the tiles that a region touches are decoded, and no others.

OpenSlide reads images. tifffile reads the TIFF files that OpenSlide leaves out (strips in place of
tiles), and all masks: the numbers as stored, where OpenSlide would make colours of them.

Level 0 is a slide at its finest; a level's downsample says how many pixels of level 0 lie along the
side of one of its own.
"""

import io
import os
import struct
import threading
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from PIL import Image

from seglab.data.reading import FileFaults
from seglab.errors import ConfigError

OPEN_AT_ONCE = 64  # files of each kind that a process keeps open
CACHE_BYTES = 64 << 20  # of decoded tiles, for all slides of a process
PIECE_BYTES = 256 << 20  # the largest tile or strip that is decoded
LZW, JPEG = 5, 7  # TIFF's numbers of the compressions
UNASSOCIATED_ALPHA = 2
INSTALL = "reading slides needs OpenSlide and tifffile: pip install -e '.[slides]'"
TILED = "Save it in tiles, as `vips tiffsave IN OUT --tile --pyramid --compression deflate` does"


class Slide(Protocol):
    """An image pyramid.

    Attributes:
        rows, columns: of level 0.
        downsamples: of each level, the finest (1.0) first.
        mpp: microns along the side of a pixel of level 0; None where the file does not say.
    """

    path: Path
    rows: int
    columns: int
    downsamples: tuple[float, ...]
    mpp: float | None

    def size(self, level: int) -> tuple[int, int]:
        """(rows, columns) of a level."""
        ...

    def read(self, level: int, top: int, left: int, rows: int, columns: int) -> np.ndarray:
        """(rows, columns, 3) uint8 RGB; what is transparent or outside is white.

        Everything in pixels of the level. Errors: FileFaults.
        """
        ...


def open_slide(path: Path) -> Slide:
    """The slide, kept open by this process. Errors: FileFaults, ConfigError without OpenSlide."""
    return _open_slide(path, *_state(path))


def open_mask(path: Path) -> "Plane":
    """The finest level of a mask, kept open by this process.

    Lower levels are not read: many tools average the labels in them.

    Errors: FileFaults where it is missing, no TIFF, not of 8 bits, of colours, or compressed as
    JPEG, which changes labels; ConfigError without tifffile.
    """
    return _open_mask(path, *_state(path))


class Plane:
    """One page of a TIFF file, of 8 bits; any number of threads may read it.

    Args:
        page: of tifffile, while its file is open.
    """

    def __init__(self, path: Path, page: Any) -> None:
        self.path, self.rows, self.columns = path, page.imagelength, page.imagewidth
        self.samples = page.samplesperpixel
        if page.dtype != np.uint8 or page.planarconfig != 1:
            raise FileFaults([(path, f"{page.dtype} pixels, expected 8 bits, colours together")])
        self.piece = (
            (page.tilelength, page.tilewidth)
            if page.is_tiled
            else (min(page.rowsperstrip, self.rows), self.columns)
        )
        size = self.piece[0] * self.piece[1] * self.samples
        if size > PIECE_BYTES:
            wrong = f"stored in pieces of {size >> 20} MiB, each of which is decoded as a whole"
            raise FileFaults([(path, f"{wrong}. {TILED}")])
        self.grid = -(-self.rows // self.piece[0]), -(-self.columns // self.piece[1])
        self._offsets, self._counts = np.array([page.dataoffsets, page.databytecounts], np.int64)
        self._page_decode, self._tables = page.decode, page.jpegtables
        self._lzw = self.samples == 1 and page.compression == LZW and page.fillorder == 1
        self._predictor, self._tiled = page.predictor, page.is_tiled
        self._file = open(path, "rb")  # noqa: SIM115 (open as long as this is)
        self._lock = threading.Lock()
        self._decode_small = lru_cache(maxsize=64)(self._decode)  # most tiles are of one colour

    def __del__(self) -> None:
        if hasattr(self, "_file"):
            self._file.close()

    def at(self, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        """(len(rows), len(columns), samples) uint8: the pixels where these rows and columns cross.

        rows, columns: in rising order, inside the page. Errors: FileFaults.
        """
        found = np.empty((len(rows), len(columns), self.samples), np.uint8)
        across = list(_stretches(columns, self.piece[1]))
        for i, to_rows, from_rows in _stretches(rows, self.piece[0]):
            for j, to_columns, from_columns in across:
                piece = self._piece(i, j)
                if isinstance(from_rows, slice) or isinstance(from_columns, slice):
                    found[to_rows, to_columns] = piece[from_rows][:, from_columns]
                else:
                    found[to_rows, to_columns] = piece[np.ix_(from_rows, from_columns)]
        return found

    def _piece(self, i: int, j: int) -> np.ndarray:
        """(rows, columns, samples) uint8: a tile or a strip; at the border perhaps cut."""
        index = i * self.grid[1] + j
        if not self._counts[index]:  # never written
            return np.zeros((*self.piece, self.samples), np.uint8)
        with self._lock:
            self._file.seek(int(self._offsets[index]))
            data = self._file.read(int(self._counts[index]))
        whole = i + 1 < self.grid[0] and j + 1 < self.grid[1]
        decode = self._decode_small if len(data) < 4096 else self._decode
        try:
            return decode(data, 0 if whole else index)
        except MemoryError:
            raise
        except Exception as error:  # a decoder may raise anything at a hostile file
            wrong = f"damaged, or compressed in a way that cannot be read: {error}"
            if "imagecodecs" in str(error):
                wrong = f"{error}: pip install imagecodecs, or save it compressed by deflate"
            raise FileFaults([(self.path, wrong)]) from error

    def _decode(self, data: bytes, index: int) -> np.ndarray:
        if self._lzw:
            left = self.rows - index // self.grid[1] * self.piece[0]  # the last strip is shorter
            rows = self.piece[0] if self._tiled else min(self.piece[0], left)
            return _lzw_decoded(data, (rows, self.piece[1]), self._predictor)
        decoded, _, _ = self._page_decode(data, index, jpegtables=self._tables)
        return decoded[0]


class TiffSlide:
    """A slide of TIFF pages that OpenSlide does not take; see Slide."""

    def __init__(self, path: Path, levels: list[Any]) -> None:
        self.path = path
        first = levels[0]
        colours = "RGB", "MINISBLACK", "YCBCR"
        alpha = not first.extrasamples or first.extrasamples[0] == UNASSOCIATED_ALPHA
        if first.samplesperpixel not in (1, 3, 4) or first.photometric.name not in colours:
            raise FileFaults([(path, f"{first.photometric.name} pixels, expected RGB or grey")])
        if first.samplesperpixel == 4 and not alpha:
            raise FileFaults([(path, "colours multiplied by their transparency. Save it as RGB")])
        self._planes = [Plane(path, page) for page in levels]
        self.rows, self.columns = self._planes[0].rows, self._planes[0].columns
        self.downsamples = tuple(self.columns / plane.columns for plane in self._planes)
        self.mpp = None
        if first.resolutionunit in (2, 3):  # inches, centimetres
            self.mpp = _one_mpp(path, *(1 / n for n in first.get_resolution("micrometer")))

    def size(self, level: int) -> tuple[int, int]:
        """(rows, columns) of a level."""
        return self._planes[level].rows, self._planes[level].columns

    def read(self, level: int, top: int, left: int, rows: int, columns: int) -> np.ndarray:
        """(rows, columns, 3) uint8 RGB, white outside. Errors: FileFaults."""
        plane = self._planes[level]
        inside = [
            np.arange(start, min(start + count, end))
            for start, count, end in ((top, rows, plane.rows), (left, columns, plane.columns))
        ]
        pixels = plane.at(*inside)
        if pixels.shape[2] == 4:
            pixels = _on_white(Image.fromarray(pixels))
        found = np.full((rows, columns, 3), 255, np.uint8)
        found[: len(pixels), : pixels.shape[1]] = pixels
        return found


class OpenSlideSlide:
    """A slide that OpenSlide reads; see Slide."""

    def __init__(self, path: Path) -> None:
        openslide = _openslide()
        self.path, self._error = path, openslide.OpenSlideError
        try:
            self._slide = openslide.OpenSlide(path)
            self._slide.set_cache(_tile_cache(os.getpid()))
            known = self._slide.properties
        except self._error as error:
            raise FileFaults([(path, f"damaged or truncated: {error}")]) from error
        self.columns, self.rows = self._slide.dimensions
        self.downsamples = self._slide.level_downsamples
        sides = [known.get(f"openslide.mpp-{axis}") for axis in "xy"]
        self.mpp = None if None in sides else _one_mpp(path, *(float(side) for side in sides))

    def size(self, level: int) -> tuple[int, int]:
        """(rows, columns) of a level."""
        columns, rows = self._slide.level_dimensions[level]
        return rows, columns

    def read(self, level: int, top: int, left: int, rows: int, columns: int) -> np.ndarray:
        """(rows, columns, 3) uint8 RGB, white outside. Errors: FileFaults."""
        down = self.downsamples[level]
        corner = round(left * down), round(top * down)  # OpenSlide counts in pixels of level 0
        try:
            return _on_white(self._slide.read_region(corner, level, (columns, rows)))
        except self._error as error:  # from now on OpenSlide repeats it for every region
            raise FileFaults([(self.path, f"damaged or truncated: {error}")]) from error


def _openslide() -> Any:
    try:
        import openslide
    except ImportError as error:
        raise ConfigError(f"dataset wsi: {INSTALL} ({error})") from error
    return openslide


def _tifffile() -> Any:
    try:
        import tifffile
    except ImportError as error:
        raise ConfigError(f"dataset wsi: {INSTALL} ({error})") from error
    return tifffile


@lru_cache(maxsize=1)
def _tile_cache(process: int) -> Any:
    """One for all slides of a process."""
    del process
    return _openslide().OpenSlideCache(CACHE_BYTES)


def _state(path: Path) -> tuple[int, int, int]:
    """Process, size and time of change: an open file serves neither a fork nor its successor."""
    try:
        stat = path.stat()
    except OSError as error:
        wrong = "missing" if isinstance(error, FileNotFoundError) else f"{error.strerror}"
        raise FileFaults([(path, wrong)]) from None
    if stat.st_size == 0:
        raise FileFaults([(path, "empty file (0 bytes)")])
    return os.getpid(), stat.st_size, stat.st_mtime_ns


@lru_cache(maxsize=OPEN_AT_ONCE)
def _open_slide(path: Path, *state: int) -> Slide:
    del state
    if _openslide().OpenSlide.detect_format(path) is not None:
        return OpenSlideSlide(path)
    with _pages(path, "neither a slide that OpenSlide reads nor a TIFF file") as tiff:
        return TiffSlide(path, [level.pages[0].aspage() for level in tiff.series[0].levels])


@lru_cache(maxsize=OPEN_AT_ONCE)
def _open_mask(path: Path, *state: int) -> Plane:
    del state
    with _pages(path, "no TIFF file. A mask must be one") as tiff:
        page = tiff.pages[0]
        if page.samplesperpixel != 1 or page.photometric.name not in ("MINISBLACK", "PALETTE"):
            wrong = f"{page.photometric.name} mask of {page.samplesperpixel} channels"
            raise FileFaults([(path, f"{wrong}, expected 8 bit grey. Labels would be misread")])
        if page.compression == JPEG:
            raise FileFaults([(path, "compressed as JPEG, which changes labels. Take deflate")])
        return Plane(path, page)


def _pages(path: Path, otherwise: str) -> Any:
    tifffile = _tifffile()
    try:
        return tifffile.TiffFile(path)
    except tifffile.TiffFileError as error:
        raise FileFaults([(path, f"{otherwise} ({error})")]) from error


def _one_mpp(path: Path, x: float, y: float) -> float:
    if abs(x - y) > 0.01 * x:
        raise FileFaults([(path, f"pixels of {x:.4g} x {y:.4g} microns, expected squares")])
    return x


def _on_white(image: Image.Image) -> np.ndarray:
    """RGBA -> (H, W, 3) uint8 RGB."""
    ground = Image.new("RGB", image.size, (255, 255, 255))
    ground.paste(image, mask=image.getchannel("A"))
    return np.array(ground)


def _stretches(places: np.ndarray, length: int) -> Iterator[tuple[int, slice, slice | np.ndarray]]:
    """(piece, where the places stand in their array, where in the piece) for each piece touched."""
    pieces = places // length
    starts = np.flatnonzero(np.diff(pieces, prepend=-1))
    for start, end in zip(starts, [*starts[1:], len(places)], strict=True):
        inside = places[start:end] - pieces[start] * length
        dense = inside[-1] - inside[0] + 1 == len(inside)
        yield (
            int(pieces[start]),
            slice(start, end),
            slice(inside[0], inside[-1] + 1) if dense else inside,
        )


def _lzw_decoded(data: bytes, shape: tuple[int, int], predictor: int) -> np.ndarray:
    """(rows, columns, 1) uint8 of one tile or strip: tifffile by itself cannot, Pillow can.

    It becomes a TIFF file of one strip.
    """
    rows, columns = shape
    entries = {256: columns, 257: rows, 258: 8, 259: LZW, 262: 1, 273: 0, 277: 1, 278: rows,
               279: len(data), 317: predictor}  # fmt: skip
    entries[273] = 8 + 2 + 12 * len(entries) + 4  # where the data begins
    header = b"II*\0" + struct.pack("<IH", 8, len(entries))
    header += b"".join(struct.pack("<HHII", tag, 4, 1, n) for tag, n in entries.items())
    with Image.open(io.BytesIO(header + struct.pack("<I", 0) + data)) as image:
        return np.array(image)[..., None]
