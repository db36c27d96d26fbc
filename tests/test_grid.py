"""The thesis's grid: six losses times six networks take two steps on 19 classes."""

import pytest
import torch

from seglab import config
from seglab.data import module
from seglab.engine import Engine
from seglab.metrics.meter import Meter

LOSSES = ("ce", "iou", "dice", "combo", "dice_focal", "dist")
NETWORKS = [
    (model, encoder)
    for model in ("unet", "deeplabv3plus")
    for encoder in ("resnet34", "resnet50", "mobilenet_v2")
]


@pytest.fixture(scope="module")
def batch():
    settings = config.read(*config.compose(["dataset=shapes"]))
    source = config.build(settings, "dataset")
    pairs = [(source.read_image(s), source.read_mask(s)) for s in source.samples("train")[:2]]

    class Pairs(list):
        ids = ("0", "1")

    split = Pairs((image[:64, :64], mask[:64, :64]) for image, mask in pairs)
    return module.as_batch(module.Images(split), [0, 1])


@pytest.mark.parametrize(("model", "encoder"), NETWORKS)
def test_every_loss_moves_every_network(read, batch, model, encoder):
    for loss in LOSSES:
        settings = read("dataset=shapes", f"model={model}", f"encoder={encoder}", f"loss={loss}")
        network = config.build(settings, "model", classes=19)
        engine = Engine(
            network,
            config.build(settings, "loss"),
            config.build(settings, "optimizer", _partial_=True),
            Meter(19, [0.02]),
            settings.dataset.mean,
            settings.dataset.std,
            seed=0,
        )
        optimizer = engine.configure_optimizers()
        head = network.segmentation_head[0].weight
        before = head.detach().clone()
        for _ in range(2):
            optimizer.zero_grad()
            value = engine.loss(engine(batch["image"]), batch["target"].long())
            value.backward()
            optimizer.step()
            assert torch.isfinite(value), (loss, model, encoder)
        assert torch.isfinite(head).all()
        assert not torch.equal(before, head), (loss, model, encoder)
