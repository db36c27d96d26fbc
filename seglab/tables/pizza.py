"""The masks behind Table 3.1: one ellipse ("the pizza") and three predictions of it.

Gul. "A distance transform-based loss function for semantic image segmentation with deep neural
networks." MSc thesis, Sabanci University, 2023. Figure 3.1 draws the masks, Table 3.1 prints four
losses of each prediction. The figure gives no coordinates: those below were fitted so that all
twelve numbers come out, once for each distance that the thesis may have used.

How the rows are computed: the last three losses take probabilities 0 and 1; Cross-Entropy takes
the 0/1 mask itself as the logit, so that a true positive costs 0.3133 and not 0.
"""

from dataclasses import dataclass

import numpy as np

ROWS, COLUMNS = 400, 600
CENTRE = (300, 200)  # x, y

PUBLISHED = {  # Table 3.1: the loss of predictions 1, 2 and 3
    "ce": (0.565, 0.619, 0.597),
    "iou": (0.037, 0.214, 0.166),
    "dice": (0.019, 0.120, 0.091),
    "dist": (0.056, 0.296, 0.238),
}


@dataclass(frozen=True)
class Pizza:
    """Coordinates in pixels, x to the right and y down; a pixel is its centre (x, y)."""

    semi_axes: tuple[float, float]  # along x, along y
    polygon: tuple[tuple[int, int], ...]  # prediction 1: convex, (x, y) of the corners
    rectangles: tuple[
        tuple[int, int, int, int], ...
    ]  # predictions 2, 3: x0, y0, x1, y1; ends excluded

    def truth(self) -> np.ndarray:
        """(400, 600) bool, the pixels with ((x - 300) / a)^2 + ((y - 200) / b)^2 <= 1."""
        x, y = _coordinates()
        a, b = self.semi_axes
        return ((x - CENTRE[0]) / a) ** 2 + ((y - CENTRE[1]) / b) ** 2 <= 1

    def predictions(self) -> list[np.ndarray]:
        """Predictions 1, 2 and 3 of Figure 3.1, (400, 600) bool each."""
        return [_polygon(self.polygon), *(_rectangle(*corners) for corners in self.rectangles)]


PIZZAS = {  # by the distance of the row "Ours"
    "chessboard": Pizza(
        semi_axes=(186.51, 143.51),
        polygon=(
            (487, 224), (435, 304), (331, 344), (215, 330), (130, 266),
            (112, 177), (165, 96), (271, 55), (385, 70), (468, 133),
        ),
        rectangles=((114, 57, 487, 344), (130, 65, 467, 337)),
    ),
    "euclidean": Pizza(
        semi_axes=(175.52, 152.52),
        polygon=(
            (476, 224), (427, 310), (328, 354), (219, 339), (142, 270),
            (123, 176), (173, 90), (272, 46), (381, 61), (458, 130),
        ),
        rectangles=((125, 48, 476, 353), (133, 60, 463, 338)),
    ),
}  # fmt: skip


def _coordinates() -> tuple[np.ndarray, np.ndarray]:
    """x (1, 600) and y (400, 1)."""
    return np.arange(COLUMNS)[None, :], np.arange(ROWS)[:, None]


def _polygon(corners: tuple[tuple[int, int], ...]) -> np.ndarray:
    """The pixels inside a convex polygon or on its edges: on one side of every edge."""
    x, y = _coordinates()
    turns = [
        (x1 - x0) * (y - y0) - (y1 - y0) * (x - x0)
        for (x0, y0), (x1, y1) in zip(corners, corners[1:] + corners[:1], strict=True)
    ]
    return np.all([turn >= 0 for turn in turns], axis=0)


def _rectangle(x0: int, y0: int, x1: int, y1: int) -> np.ndarray:
    x, y = _coordinates()
    return (x0 <= x) & (x < x1) & (y0 <= y) & (y < y1)
