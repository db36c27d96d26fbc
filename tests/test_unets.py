"""The U-Nets that are written here are what their papers describe."""

import pytest
import torch
from torch import nn

from seglab import config
from seglab.errors import ConfigError
from seglab.models.sizes import check_size
from seglab.models.unets import Block, Gate

NAMES = ("vanilla_unet", "attention_unet", "residual_attention_unet", "poster_unet")


def network(read, name, *overrides, classes=3):
    settings = read(f"model={name}", "model.channels=[4,6,8,10,12]", *overrides)
    return config.build(settings, "model", classes=classes)


def layers(module, kind):
    return [layer for layer in module.modules() if type(layer) is kind]


@pytest.mark.parametrize("name", NAMES)
def test_maps_an_image_to_logits_of_its_size_and_learns(read, name):
    torch.manual_seed(0)
    model = network(read, name)
    image = torch.randn(2, 3, 32, 48)
    logits = model(image)
    assert logits.shape == (2, 3, 32, 48)
    logits.square().mean().backward()
    assert all(p.grad is not None for p in model.parameters())
    assert all(p.grad.abs().sum() > 0 for p in model.segmentation_head.parameters())


def test_the_unet_has_the_layers_of_the_paper(read):
    model = network(read, "vanilla_unet")
    kernels = [layer.kernel_size for layer in layers(model, nn.Conv2d)]
    assert kernels == [(3, 3)] * 18 + [(1, 1)]  # 23 layers in the paper, with the 4 below
    assert [layer.kernel_size for layer in layers(model, nn.ConvTranspose2d)] == [(2, 2)] * 4
    full = config.build(read("model=vanilla_unet"), "model", classes=2)
    assert sum(p.numel() for p in full.parameters()) == 31_037_698


def test_the_posters_has_ten_convolutions_down_and_eight_transposed_up(read):
    model = network(read, "poster_unet")
    assert len(layers(model.down, nn.Conv2d)) == 10
    assert len(layers(model, nn.ConvTranspose2d)) == 8
    with pytest.raises(ConfigError, match=r"model\.channels=\[4, 8\]: the network has five levels"):
        network(read, "poster_unet", "model.channels=[4,8]")


def test_only_the_attention_unets_have_gates_and_only_the_residual_one_shortcuts(read):
    found = {name: network(read, name) for name in NAMES[:3]}
    assert [len(layers(model, Gate)) for model in found.values()] == [0, 4, 4]
    shortcuts = [sum(b.shortcut is not None for b in layers(m, Block)) for m in found.values()]
    assert shortcuts == [0, 0, 9]


def test_a_gate_scales_the_fine_features_by_what_the_coarse_ones_say():
    torch.manual_seed(1)
    gate = Gate(4, 6)
    x, g = torch.randn(1, 4, 8, 8), torch.randn(1, 6, 4, 4)
    share = gate(x, g) / x
    torch.testing.assert_close(share[:, :1].expand_as(share), share)  # one alpha for each pixel
    assert ((share > 0) & (share < 1)).all()
    coarse = gate.of_fine(x) + gate.of_coarse(g)
    alpha = gate.weight(coarse.relu()).sigmoid()
    torch.testing.assert_close(share[0, 0, 0, 0], alpha[0, 0, 0, 0])  # corners are not mixed
    assert not torch.equal(gate(x, g), gate(x, g + 1))


def test_a_residual_block_adds_its_input():
    block = Block(3, 5, residual=True, dropout=0.0).eval()
    nn.init.zeros_(block.body[-1].weight)
    x = torch.randn(1, 3, 6, 6)
    torch.testing.assert_close(block(x), block.shortcut(x).relu())


def test_dropout_drops_in_training_alone(read):
    model = network(read, "residual_attention_unet", "model.dropout=0.5")
    image = torch.randn(2, 3, 32, 32)
    assert not torch.equal(model(image), model(image))
    model.eval()
    assert torch.equal(model(image), model(image))


def test_dropout_follows_each_of_the_two_convolutions():
    block = Block(3, 5, residual=False, dropout=1.0)
    seen = []
    block.body[3].register_forward_hook(lambda _layer, given, _found: seen.append(given[0]))
    assert not block(torch.randn(2, 3, 8, 8)).any()
    assert len(seen) == 1
    assert not seen[0].any()  # what the second convolution was given


def test_he_normal_keeps_the_variance_of_what_a_relu_halves(read):
    """Var(w) = 2 / fan in, of a normal distribution: 4 of 1000 lie beyond 2.88 deviations."""
    torch.manual_seed(2)
    overrides = ("model.channels=[16,32]", "model.init=he_normal")
    model = config.build(read("model=residual_attention_unet", *overrides), "model", classes=1)
    pooled = []
    for layer in (*layers(model, nn.Conv2d), *layers(model, nn.ConvTranspose2d)):
        one = torch.ones(1, layer.in_channels, 8, 8)
        with torch.no_grad():  # as many terms as an output in the middle is the sum of
            layer.weight.data, kept = torch.ones_like(layer.weight), layer.weight.data
            fan_in = layer(one)[0, 0, 2, 2] - (0 if layer.bias is None else layer.bias[0])
        pooled.append(kept.flatten() * (fan_in / 2).sqrt())
        assert layer.bias is None or not layer.bias.any()
    pooled = torch.cat(pooled)
    assert len(pooled) == 28_160  # so the deviation of their variance is 0.008
    assert pooled.var().item() == pytest.approx(1, abs=0.03)
    assert 0.003 < (pooled.abs() > 2.88).double().mean().item() < 0.005


def test_an_unknown_init_is_told(read):
    with pytest.raises(ConfigError, match=r"model\.init=he: must be one of default, he_normal"):
        network(read, "vanilla_unet", "model.init=he")


def test_an_encoder_and_a_size_that_do_not_fit_are_told(read):
    with pytest.raises(ConfigError, match="encoder=resnet50: this network has no encoder"):
        network(read, "attention_unet", "encoder=resnet50")
    with pytest.raises(ConfigError, match=r"40 x 40 pixels.*Sizes near it that will do: 32 x 32"):
        check_size(network(read, "vanilla_unet"), (40, 40), 3)
