"""CelebAMask-HQ and Cityscapes from their folders to a record, on made trees."""

import contextlib
import io
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from seglab import config, experiment, reload
from seglab.data import cache, check, cityscapes
from seglab.data.preprocess import Preprocess
from seglab.errors import DataError

sys.path.insert(0, str(Path(__file__).parent / "data"))
import trees

SHORT = ("encoder=mobilenet_v2", "encoder.weights=null", "trainer=cpu", "trainer.epochs=1",
         "trainer.batch_size=2", "logger=none", "dataset.size=32")  # fmt: skip


def checked_prepared_trained(settings, capfd):
    """What the three commands do, in this process."""
    source = config.build(settings, "dataset")
    found = check.check(source, settings.cache_dir, trees.quiet)
    assert found.faults == ()
    preprocess = Preprocess(settings.dataset.size, settings.dataset.pad)
    cache.prepare(source, preprocess, settings.cache_dir, found, trees.quiet)
    folder = experiment.run(settings)
    assert "reads the prepared arrays" in capfd.readouterr().err
    return source, reload.load(folder)


def test_celebamask_hq_from_its_parts_to_a_record(read, tmp_path, capfd):
    root = trees.celebamask_hq(tmp_path / "CelebAMask-HQ")
    settings = read(
        "dataset=celebamask_hq", f"dataset.root='{root}'", "dataset.expected_images=30",
        "dataset.split={counts: [20, 6, 4], order: index}", "loss=dist", *SHORT,
    )  # fmt: skip
    source, run = checked_prepared_trained(settings, capfd)
    assert source.num_classes == 1
    images = pd.read_parquet(run.folder / "images.parquet").query("checkpoint == 'best'")
    assert images.groupby("split")["image"].nunique().to_dict() == {"val": 6, "test": 4}
    assert set(images["class"]) == {1}
    for sample in source.samples("test"):
        row = images[(images["split"] == "test") & (images["image"] == sample.id)].iloc[0]
        assert row["tp"] + row["fn"] == np.count_nonzero(source.read_mask(sample))


def test_the_iou_of_cityscapes_is_that_of_its_own_evaluator(read, tmp_path, capfd, monkeypatch):
    evaluator = pytest.importorskip("cityscapesscripts.evaluation.evalPixelLevelSemanticLabeling")
    root = trees.cityscapes(tmp_path / "cityscapes")
    counts = ", ".join(f"{split}: {n}" for split, n in trees.COUNTS.items())
    settings = read(
        "dataset=cityscapes", f"dataset.root='{root}'", f"dataset.expected_counts={{{counts}}}",
        "loss=ce", "model=deeplabv3plus", *SHORT,
    )  # fmt: skip
    source, run = checked_prepared_trained(settings, capfd)
    preprocess = Preprocess(settings.dataset.size, settings.dataset.pad)
    truths, predictions = [], []
    for sample in source.samples("val"):
        image, _ = preprocess(source.read_image(sample), source.read_mask(sample))
        batch = torch.from_numpy(image.transpose(2, 0, 1).copy())[None]
        predicted = run.predict(batch)[0, :16, :32].numpy()  # the padding is below
        truth = np.array(Image.open(sample.files[1]))
        truth[truth == 255] = 0  # the evaluator knows no 255; neither counts
        truths.append(str(tmp_path / sample.files[1].name))
        Image.fromarray(truth).save(truths[-1])
        predictions.append(str(tmp_path / Path(sample.files[1]).name.replace("gtFine", "pred")))
        Image.fromarray(cityscapes.to_label_ids(predicted)).save(predictions[-1])
    monkeypatch.setattr(evaluator.args, "evalInstLevelScore", False)
    monkeypatch.setattr(evaluator.args, "JSONOutput", False)
    monkeypatch.setattr(evaluator.args, "quiet", True)
    with contextlib.redirect_stdout(io.StringIO()):
        theirs = evaluator.evaluateImgLists(predictions, truths, evaluator.args)
    ours = run.record["scores"]["val"]["dataset"]["iou"]
    assert ours == pytest.approx(theirs["averageScoreClasses"], abs=1e-12)
    assert run.record["dataset"]["test_split"] == "val"
    assert set(run.record["scores"]) == {"val"}


def test_a_faulty_data_set_is_not_trained_on(read, tmp_path):
    root = trees.celebamask_hq(tmp_path / "CelebAMask-HQ")
    image = root / "CelebA-HQ-img" / "3.jpg"
    image.write_bytes(image.read_bytes()[:-60])
    settings = read(
        "dataset=celebamask_hq", f"dataset.root='{root}'", "dataset.expected_images=30",
        "dataset.split={counts: [20, 6, 4], order: index}", *SHORT,
    )  # fmt: skip
    with pytest.raises(
        DataError, match=r"CelebA-HQ-img/3\.jpg: damaged[\s\S]*scripts/data\.py check"
    ):
        experiment.run(settings)
    assert not (settings.results_dir / "runs").exists()


def test_pictures_of_a_data_set_that_may_not_be_passed_on_stay_here(read):
    for overrides, share in (
        (("dataset=nuclei",), True),
        (("dataset=cityscapes", "dataset.root=/tmp"), False),
        (("dataset=cityscapes", "dataset.root=/tmp", "logger.images=true"), True),
        (("dataset=nuclei", "logger.images=false"), False),
    ):
        settings = read(*overrides)
        source = config.build(settings, "dataset") if "nuclei" in overrides[0] else _Restricted()
        assert experiment.may_share(settings, source) is share


class _Restricted:
    share_images = cityscapes.Cityscapes.share_images
