"""Pictures of predictions: matplotlib and NumPy, no torch. Bands are handed in, made elsewhere.

Error colours are from the palette of Okabe and Ito, which colour-blind readers tell apart
(https://jfly.uni-koeln.de/color/): orange = in the truth alone (missed), blue = in the prediction
alone (too much); for several classes, where a wrong pixel is both, vermilion. Where the two bands
agree they are dark. Ignored pixels are grey with dark stripes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib import colors as named
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from seglab import files

IGNORE = 255  # as seglab.ops.IGNORE, which cannot be imported without torch

Colour = tuple[float, float, float]
Colours = Sequence[tuple[int, int, int]]


def _rgb(hexadecimal: str) -> Colour:
    red, green, blue = (round(255 * part) for part in named.to_rgb(hexadecimal))
    return red, green, blue


EXTRA = _rgb("#0072b2")  # in the prediction alone
MISSED = _rgb("#e69f00")  # in the truth alone
WRONG = _rgb("#d55e00")  # another class
AGREED = _rgb("#303030")  # in both bands
IGNORED = _rgb("#8c8c8c")
STRIPE = _rgb("#4d4d4d")

PANEL_INCHES = 2.6  # the side of a square panel; others have the same area
GAP_INCHES = 0.06
LABEL_INCHES = 0.22  # at the left, for the name of a row
LINE_INCHES = 0.17  # of text
LEGEND_INCHES = 1.35  # a column of the legend
DOTS_PER_INCH = 150


@dataclass(frozen=True)
class SampleRow:
    """One row of `samples_figure`.

    Attributes:
        title: the sample's name.
        image: (H, W, 3) uint8.
        target: (H, W) class indices, 255 = ignored.
        predicted: (H, W) class indices; what it says where the truth is ignored is not shown.
        truth_band, predicted_band: (H, W) bool boundary bands. In a binary task the band of the
            background is left out here, so `seglab.metrics.boundary_band` will do as it is.
    """

    title: str
    image: np.ndarray
    target: np.ndarray
    predicted: np.ndarray
    truth_band: np.ndarray
    predicted_band: np.ndarray


def sample_figure(
    image: np.ndarray,
    target: np.ndarray,
    predicted: np.ndarray,
    bands: tuple[np.ndarray, np.ndarray],
    colours: Colours,
    classes: Sequence[str],
    title: str,
) -> Figure:
    """One sample: image, truth, prediction, errors, boundary band.

    Args:
        image: (H, W, 3) uint8.
        target, predicted: (H, W) class indices, 255 = ignored.
        bands: (H, W) bool, of the truth and of the prediction.
        colours: (R, G, B) of each class; `classes`: its name. One class: a binary task.
    """
    row = SampleRow("", image, target, predicted, *bands)
    return samples_figure([row], colours, classes, title)


def samples_figure(
    rows: Sequence[SampleRow], colours: Colours, classes: Sequence[str], title: str
) -> Figure:
    """Several samples, one a row: image, truth, prediction, errors, boundary band.

    The legend names the classes that occur in a truth or a prediction. Arguments: `sample_figure`.
    """
    headings = ("image", "truth", "prediction", "errors", "boundary band")
    targets = [row.target for row in rows]
    predictions = [_where_it_counts(row.predicted, row.target) for row in rows]
    entries = _class_entries([*targets, *predictions], colours, classes)
    entries += [("wrong class", WRONG)] if len(classes) > 1 else []
    entries += [("truth alone", MISSED), ("prediction alone", EXTRA), ("both bands", AGREED)]
    entries += _ignored_entry(targets)
    figure, grid = _grid(len(rows), headings, targets[0].shape, title, entries)
    for axes, row, ours in zip(grid, rows, predictions, strict=True):
        truth = row.target
        _show(axes[0], row.image)
        _show(axes[1], class_overlay(row.image, truth, colours))
        _show(axes[2], class_overlay(row.image, ours, colours))
        _show(axes[3], error_overlay(row.image, truth, ours, len(classes)))
        bands = [
            band & (labels == 1) if len(classes) == 1 else band
            for band, labels in ((row.truth_band, truth), (row.predicted_band, ours))
        ]
        _show(axes[4], band_overlay(row.image, truth, *bands))
        side = PANEL_INCHES * np.sqrt(truth.shape[0] / truth.shape[1])
        axes[0].set_ylabel(row.title, fontsize=_fitting(row.title, side, 8), labelpad=3)
    return figure


def comparison_figure(
    image: np.ndarray,
    target: np.ndarray,
    predictions: Mapping[str, np.ndarray],
    colours: Colours,
    classes: Sequence[str],
    title: str = "",
) -> Figure:
    """Image and truth, then the errors of each prediction, under its name.

    A name is followed by the share of the valid pixels that are wrong.

    Args:
        image: (H, W, 3) uint8; target: (H, W) class indices, 255 = ignored.
        predictions: name -> (H, W) class indices.
        colours: (R, G, B) of each class; `classes`: its name. One class: a binary task.
    """
    valid = target != IGNORE
    headings = ["image", "truth"]
    for name, predicted in predictions.items():
        share = np.mean(predicted[valid] != target[valid]) if valid.any() else float("nan")
        headings.append(f"{name}\n{100 * share:.1f} % wrong")
    entries = _class_entries([target], colours, classes)
    wrong = [("wrong class", WRONG)]
    entries += wrong if len(classes) > 1 else [("truth alone", MISSED), ("prediction alone", EXTRA)]
    entries += _ignored_entry([target])
    figure, grid = _grid(1, headings, target.shape, title, entries)
    _show(grid[0, 0], image)
    _show(grid[0, 1], class_overlay(image, target, colours))
    for axes, predicted in zip(grid[0, 2:], predictions.values(), strict=True):
        ours = _where_it_counts(predicted, target)
        _show(axes, error_overlay(image, target, ours, len(classes)))
    return figure


def save(figure: Figure, path: Path) -> None:
    """A PNG, whole or not at all. Errors: OSError where the folder cannot be written."""
    files.write_atomic(path, lambda temporary: figure.savefig(temporary, format="png"))


# ---------------------------------------------------------------- overlays


def class_overlay(image: np.ndarray, labels: np.ndarray, colours: Colours) -> np.ndarray:
    """(H, W, 3) uint8: the image under the colours of the classes; ignored pixels striped.

    In a binary task (one colour) the background shows the image as it is.
    """
    shades = _grey(image)
    picture = image.astype(float)
    for label, colour in _labels(colours):
        _tint(picture, shades, labels == label, colour, strength=0.6)
    return _striped(picture, labels == IGNORE)


def error_overlay(
    image: np.ndarray, target: np.ndarray, predicted: np.ndarray, num_classes: int
) -> np.ndarray:
    """(H, W, 3) uint8: a pale image and what is wrong on it.

    Binary: found too much, and missed. Several classes: pixels of another class than the truth's.
    """
    wrong = predicted != target
    if num_classes == 1:
        marks = [(wrong & (target == 0), EXTRA), (wrong & (target == 1), MISSED)]
    else:
        marks = [(wrong, WRONG)]
    return _marked(image, target == IGNORE, marks)


def band_overlay(
    image: np.ndarray, target: np.ndarray, truth_band: np.ndarray, predicted_band: np.ndarray
) -> np.ndarray:
    """(H, W, 3) uint8: a pale image, and the bands where they agree and where they do not."""
    marks = [
        (truth_band & predicted_band, AGREED),
        (truth_band & ~predicted_band, MISSED),
        (predicted_band & ~truth_band, EXTRA),
    ]
    return _marked(image, target == IGNORE, marks)


def _marked(
    image: np.ndarray, ignored: np.ndarray, marks: list[tuple[np.ndarray, Colour]]
) -> np.ndarray:
    shades = _grey(image)
    picture = 128 + 0.4 * np.repeat(shades, 3, axis=2)  # pale, so that the marks stand out
    for where, colour in marks:
        _tint(picture, shades, where, colour, strength=0.9)
    return _striped(picture, ignored)


def _tint(
    picture: np.ndarray, shades: np.ndarray, where: np.ndarray, colour: Colour, strength: float
) -> None:
    picture[where] = strength * np.array(colour) + (1 - strength) * shades[where]


def _where_it_counts(predicted: np.ndarray, target: np.ndarray) -> np.ndarray:
    return np.where(target == IGNORE, IGNORE, predicted)


def _striped(picture: np.ndarray, ignored: np.ndarray) -> np.ndarray:
    height, width = ignored.shape
    rows, columns = np.indices(ignored.shape)
    period = max(6, max(height, width) // 40)
    stripe = (rows + columns) % period < max(1, period // 4)
    picture[ignored] = IGNORED
    picture[ignored & stripe] = STRIPE
    return picture.round().astype(np.uint8)


def _grey(image: np.ndarray) -> np.ndarray:
    return image.mean(axis=2, keepdims=True)


def _labels(colours: Colours) -> list[tuple[int, tuple[int, int, int]]]:
    """(label, colour) of everything that is drawn: the foreground alone in a binary task."""
    return [(1, colours[0])] if len(colours) == 1 else list(enumerate(colours))


# ---------------------------------------------------------------- layout


def _grid(
    rows: int,
    headings: Sequence[str],
    shape: tuple[int, ...],
    title: str,
    entries: list[tuple[str, Colour]],
) -> tuple[Figure, np.ndarray]:
    """A figure of panels in the shape of the pictures, without pyplot and its global state.

    Everything is placed in inches, so nothing overlaps and no room is left between the panels.
    """
    height, width = shape
    wide, high = PANEL_INCHES * np.array([width, height]) / np.sqrt(width * height)
    across = LABEL_INCHES + len(headings) * (wide + GAP_INCHES)
    columns = max(1, min(len(entries), int(across / LEGEND_INCHES)))
    legend = -(-len(entries) // columns) * LINE_INCHES + 2 * GAP_INCHES
    heading = (max(text.count("\n") for text in headings) + 1) * LINE_INCHES + GAP_INCHES
    top = legend + rows * (high + GAP_INCHES) + heading  # where the title begins
    down = top + 1.5 * LINE_INCHES * bool(title)

    figure = Figure(figsize=(across, down), dpi=DOTS_PER_INCH)
    FigureCanvasAgg(figure)
    grid = np.empty((rows, len(headings)), object)
    for row, column in np.ndindex(*grid.shape):
        left = LABEL_INCHES + column * (wide + GAP_INCHES)
        bottom = legend + (rows - 1 - row) * (high + GAP_INCHES)
        place = (left / across, bottom / down, wide / across, high / down)
        axes = figure.add_axes(place, xticks=[], yticks=[])
        axes.spines[:].set_visible(False)
        grid[row, column] = axes
    for axes, text in zip(grid[0], headings, strict=True):
        axes.set_title(text, fontsize=_fitting(text, wide, 10), pad=4)
    figure.suptitle(
        title, y=(top / down + 1) / 2, va="center", fontsize=_fitting(title, across, 11)
    )
    _legend(figure, entries, columns)
    return figure, grid


def _fitting(text: str, inches: float, largest: float) -> float:
    """Font size in points at which the longest line keeps to its side of a panel."""
    longest = max(len(line) for line in text.split("\n"))
    return min(largest, inches * 72 / (0.62 * max(1, longest)))


def _show(axes: Axes, picture: np.ndarray) -> None:
    axes.imshow(picture, interpolation="nearest" if max(picture.shape) < 400 else "antialiased")


def _legend(figure: Figure, entries: list[tuple[str, Colour]], columns: int) -> None:
    handles = [
        Patch(
            facecolor=np.divide(colour, 255),
            edgecolor=np.divide(STRIPE if name == "ignored" else (0, 0, 0), 255),
            hatch="////" if name == "ignored" else None,
            linewidth=0.4,
            label=name,
        )
        for name, colour in entries
    ]
    if handles:
        figure.legend(
            handles=handles, loc="lower center", fontsize=8, frameon=False, ncols=columns,
            borderaxespad=0.2, borderpad=0, labelspacing=0.4,
        )  # fmt: skip


def _class_entries(
    maps: Sequence[np.ndarray], colours: Colours, classes: Sequence[str]
) -> list[tuple[str, Colour]]:
    """The classes that occur in the label maps, in their order."""
    occurring = {int(label) for labels in maps for label in np.unique(labels)}
    names = classes if len(classes) > 1 else ["background", *classes]
    return [(names[label], colour) for label, colour in _labels(colours) if label in occurring]


def _ignored_entry(targets: Sequence[np.ndarray]) -> list[tuple[str, Colour]]:
    return [("ignored", IGNORED)] if any((t == IGNORE).any() for t in targets) else []
