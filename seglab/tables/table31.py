"""Table 3.1 of Gul's thesis: four losses of three drawn predictions. Computed, not trained."""

from seglab.tables.layout import Cell, Sheet
from seglab.tables.published import LOSSES, Published, printed
from seglab.tables.verdict import COMPUTED

ROWS = ("ce", "iou", "dice", "dist")
PREDICTIONS = ("1", "2", "3")
Computed = dict[tuple[str, str], float]  # (loss, prediction)


def table31_sheet(published: Published, computed: Computed) -> Sheet:
    """`computed` holds the losses of the masks in `pizza`, from the losses that train."""
    strings = printed(published["dist_thesis_table31"], "loss", "prediction")
    cells = {
        (loss, prediction): Cell(
            published=strings[loss, prediction]["value"],
            measured=computed.get((loss, prediction)),
            kind=COMPUTED,
        )
        for loss in ROWS
        for prediction in PREDICTIONS
    }
    return Sheet(
        name="3.1",
        title="Gul 2023, Table 3.1: losses of three drawn predictions of one ellipse.",
        corner="",
        rows={loss: LOSSES[loss] for loss in ROWS},
        columns={prediction: f"Prediction {prediction}" for prediction in PREDICTIONS},
        cells=cells,
        source="No aggregation, split, seed or plus-minus: one image.",
        facts=[
            "Computed by the losses that train, on masks fitted to the figure (chessboard "
            "distance); Cross-Entropy takes the 0/1 mask as its logit. No aggregation, split, "
            "seed or plus-minus: one image."
        ],
        command="`make tables`",
    )
