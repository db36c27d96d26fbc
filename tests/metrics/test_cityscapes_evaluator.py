"""IoU from our counts equals the number of the Cityscapes benchmark's own evaluator."""

import contextlib
import io
import math

import numpy as np
import pytest
import torch
from PIL import Image
from test_bands import blobs

from seglab.metrics import region_counts
from seglab.scores import aggregate, iou

labels = pytest.importorskip("cityscapesscripts.helpers.labels")
evaluator = pytest.importorskip("cityscapesscripts.evaluation.evalPixelLevelSemanticLabeling")

TRAIN_IDS = np.full(256, 255, np.uint8)  # by label id
LABEL_IDS = np.zeros(19, np.uint8)  # by train id
for label in labels.labels:
    if label.id >= 0 and not label.ignoreInEval:
        TRAIN_IDS[label.id] = label.trainId
        LABEL_IDS[label.trainId] = label.id


def test_iou_is_the_evaluators(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    truths, predictions, counts = [], [], []
    for index in range(3):
        truth = (blobs(96, 128, 34, seed=index, ignored=0) % 34).astype(np.uint8)  # ignored ids too
        right = TRAIN_IDS[truth]
        wrong = (rng.random(truth.shape) < 0.3) | (right == 255)
        # Class 18 occurs nowhere, class 17 in the predictions alone: NaN and 0 in both.
        truth[(right == 18) | (right == 17)], right[(right == 18) | (right == 17)] = 0, 255
        predicted = np.where(wrong | (right == 255), rng.integers(0, 18, truth.shape), right)
        truths.append(str(tmp_path / f"a_00000{index}_000000_gtFine_labelIds.png"))
        predictions.append(str(tmp_path / f"a_00000{index}_000000_pred.png"))
        Image.fromarray(truth).save(truths[-1])
        Image.fromarray(LABEL_IDS[predicted]).save(predictions[-1])
        ours, target = (
            torch.from_numpy(maps.astype(np.int64))[None] for maps in (predicted, right)
        )
        counts.append(region_counts(ours, target, 19).numpy())

    monkeypatch.setattr(evaluator.args, "evalInstLevelScore", False)
    monkeypatch.setattr(evaluator.args, "JSONOutput", False)
    monkeypatch.setattr(evaluator.args, "quiet", True)
    with contextlib.redirect_stdout(io.StringIO()):
        theirs = evaluator.evaluateImgLists(predictions, truths, evaluator.args)

    names = [label.name for train_id in range(19) for label in labels.labels
             if label.trainId == train_id]  # fmt: skip
    counts = np.concatenate(counts)
    by_class = dict(zip(names, iou(counts.sum(axis=0)), strict=True))
    for name, ours in by_class.items():
        assert ours == pytest.approx(theirs["classScores"][name], abs=1e-12, nan_ok=True), name
    assert math.isnan(by_class["bicycle"])
    assert by_class["motorcycle"] == 0
    mean, defined = aggregate(iou, counts, "dataset")
    assert mean == pytest.approx(theirs["averageScoreClasses"], abs=1e-12)
    assert defined == 18
