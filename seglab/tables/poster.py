"""Table 2 of Dubey's poster: five losses on chest X-rays."""

from dataclasses import replace

from seglab.tables import marks
from seglab.tables.layout import Cell, Sheet
from seglab.tables.measured import Measured
from seglab.tables.published import Published, printed
from seglab.tables.readings import Reading
from seglab.tables.trials import Trials, lacking_fact, mean_cell, runs_fact, trials

LOSSES = {
    "dice_bce": "Dice-BCE Loss",
    "jaccard": "Jaccard Loss",
    "focal": "Focal Loss",
    "tversky": "Tversky Loss",
    "focal_tversky": "Focal-Tversky Loss",
}
OURS = {"focal": "focal_alpha"}  # the poster's has an alpha
METRICS = {"iou_score": "IoU Score", "binary_accuracy": "Binary Accuracy"}


def poster_sheet(published: Published, measured: Measured) -> Sheet:
    """Rows: loss. Columns: IoU of the test images, accuracy of the validation images."""
    strings = printed(published["cxr_poster"], "loss", "metric")
    found = {
        loss: trials(measured, "chest_xray", "poster_unet", OURS.get(loss, loss)) for loss in LOSSES
    }
    group = {loss: runs.readings for loss, runs in found.items()}
    tested = marks.column(group, "test", "iou", measured.convention)
    cells: dict[tuple[str, str], Cell] = {}
    for loss, runs in found.items():
        values = {"iou_score": _ious(runs), "binary_accuracy": _accuracies(runs, measured)}
        for metric in METRICS:
            text = strings[loss, metric]["value"]
            cells[loss, metric] = mean_cell(text, values[metric], contest=metric)
        cells[loss, "iou_score"] = replace(cells[loss, "iou_score"], told=tested.told.get(loss))
    return Sheet(
        name="poster_2",
        title="Dubey's chest X-ray poster, Table 2.",
        corner="Loss Functions",
        rows=LOSSES,
        columns=METRICS,
        cells=cells,
        heads=[[("Evaluation Metrics", len(METRICS))]],
        source="Aggregation, split and seeds are not stated; no plus-minus.",
        facts=[
            measured.convention.sentence(),
            "IoU Score: test images. Binary Accuracy: share of the pixels of all validation images "
            "together, in the same epoch.",
            runs_fact({LOSSES[loss]: runs for loss, runs in found.items()}),
            *lacking_fact(found.values(), {"accuracy": METRICS["binary_accuracy"]}),
        ],
        marks=marks.sentences({"IoU Score": [tested]}, METRICS["binary_accuracy"]),
        command="`python train.py -m experiment=cxr_poster dataset.root=...`",
    )


def _ious(runs: Trials) -> list[float]:
    return runs.values(lambda reading: reading.scores.get("test", {}).get("iou"))


def _accuracies(runs: Trials, measured: Measured) -> list[float]:
    def accuracy(reading: Reading) -> float | None:
        if "accuracy" not in reading.epochs:
            return None
        rows = reading.epochs[reading.epochs["split"] == "val"].set_index("epoch")["accuracy"]
        best = reading.run.record["best_epoch"]
        return float(rows[best if measured.convention.epoch == "best" else rows.index.max()])

    return runs.values(accuracy)
