"""What the engine does to a batch, and what it draws from its streams."""

import numpy as np
import torch
from torch import nn

from seglab.data.preprocess import normalise
from seglab.engine import Engine, seed_everything, stream

MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


def engine(model):
    return Engine(model, nn.Identity(), torch.optim.SGD, None, MEAN, STD, seed=0)


def test_the_device_normalises_as_the_preprocessing_would():
    image = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    ours = engine(nn.Identity())(torch.from_numpy(image.transpose(2, 0, 1).copy())[None])
    expected = normalise(image, MEAN, STD).transpose(2, 0, 1)
    np.testing.assert_allclose(ours[0].numpy(), expected, rtol=0, atol=1e-6)


def test_what_does_not_learn_is_not_optimised():
    model = nn.Sequential(nn.Conv2d(3, 2, 1), nn.Conv2d(2, 1, 1))
    model[0].requires_grad_(requires_grad=False)
    handed = engine(model)
    handed.make_optimizer = lambda parameters: list(parameters)
    assert [p.shape for p in handed.configure_optimizers()] == [(1, 2, 1, 1), (1,)]


def test_streams_are_functions_of_their_path():
    assert stream(42, 1, 0) == stream(42, 1, 0)
    paths = [(42,), (42, 1), (42, 1, 0), (42, 1, 1), (42, 2, 0), (43, 1, 0), (42, 0, 1)]
    assert len({stream(*path) for path in paths}) == len(paths)


def test_seeding_covers_python_numpy_and_torch():
    import random

    drawn = []
    for _ in range(2):
        seed_everything(7)
        drawn.append((random.random(), np.random.rand(), torch.rand(1).item()))
    assert drawn[0] == drawn[1]
