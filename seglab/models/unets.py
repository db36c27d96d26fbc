"""The U-Nets of the papers that no library has as they are described. Random weights throughout.

Every level halves the sides, so those of an image must be multiples of 2^(levels - 1).
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seglab.errors import ConfigError

INITS = ("default", "he_normal")


class UNet(nn.Module):
    """(B, 3, H, W) images -> (B, classes, H, W) logits.

    Ronneberger, Fischer, Brox. "U-Net: convolutional networks for biomedical image segmentation."
    MICCAI 2015. https://arxiv.org/abs/1505.04597 : on each level two 3 x 3 convolutions, max
    pooling on the way down, 2 x 2 up-convolutions and concatenation on the way up. As is usual
    since, the convolutions are padded and followed by batch normalisation.

    Args:
        classes: channels of the logits.
        channels: of each level, from the top.
        attention: weighs what is concatenated by additive attention gates (Oktay et al. "Attention
            U-Net." MIDL 2018. https://arxiv.org/abs/1804.03999 ), one on every level, as
            in Bakos's formula; Oktay et al. leave the finest skip connection without one.
        residual: each block adds its input, through a 1 x 1 convolution, to its output (He et al.
            "Deep residual learning for image recognition." CVPR 2016).
        dropout: share of the channels that is dropped in training, after each convolution's ReLU.
        init: of the convolutions' weights: "default" is PyTorch's; "he_normal" a normal
            distribution of variance 2 / fan in, cut nowhere (He et al. "Delving deep into
            rectifiers." ICCV 2015), the biases 0. Batch normalisation begins as PyTorch has it.
        encoder: must be "none": there is no encoder to choose.

    Errors: ConfigError for an encoder, or another init.
    """

    def __init__(
        self,
        classes: int,
        channels: Sequence[int],
        *,
        attention: bool,
        residual: bool,
        dropout: float,
        init: str,
        encoder: str,
    ) -> None:
        super().__init__()
        refuse_encoder(encoder)
        if init not in INITS:
            raise ConfigError(f"model.init={init}: must be one of {', '.join(INITS)}.")
        inputs = [3, *channels[:-1]]
        pairs = list(zip(inputs, channels, strict=True))
        self.down = nn.ModuleList(Block(a, b, residual=residual, dropout=dropout) for a, b in pairs)
        levels = list(zip(channels[:-1], channels[1:], strict=True))[::-1]  # (fine, coarse)
        self.up = nn.ModuleList(nn.ConvTranspose2d(b, a, 2, stride=2) for a, b in levels)
        self.gates = nn.ModuleList(Gate(a, b) for a, b in levels) if attention else None
        self.blocks = nn.ModuleList(
            Block(2 * a, a, residual=residual, dropout=dropout) for a, _ in levels
        )
        self.segmentation_head = nn.Sequential(nn.Conv2d(channels[0], classes, 1))
        if init == "he_normal":
            self.apply(he_normal)

    def forward(self, image: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, classes, H, W)."""
        x, skips = image, []
        for level, block in enumerate(self.down):
            x = block(x if level == 0 else F.max_pool2d(x, 2))
            skips.append(x)
        for level, (up, block) in enumerate(zip(self.up, self.blocks, strict=True)):
            skip = skips[-2 - level]
            if self.gates is not None:
                skip = self.gates[level](skip, x)
            x = block(torch.cat([skip, up(x)], dim=1))
        return self.segmentation_head(x)


def he_normal(layer: nn.Module) -> None:
    """A convolution's weights anew, normal with variance 2 / fan in, and its biases 0.

    Of a transposed convolution of stride s and kernel s, each output has as many inputs as there
    are input channels.
    """
    if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
        taps = layer.kernel_size[0] * layer.kernel_size[1]
        fan_in = layer.in_channels * (taps if isinstance(layer, nn.Conv2d) else 1)
        nn.init.normal_(layer.weight, std=math.sqrt(2 / fan_in))
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)


class Block(nn.Module):
    """Twice a 3 x 3 convolution, batch normalisation and ReLU; with `residual` plus a shortcut."""

    def __init__(self, inputs: int, outputs: int, *, residual: bool, dropout: float) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(inplace=True),
            nn.Conv2d(outputs, outputs, 3, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
        )
        self.shortcut = nn.Conv2d(inputs, outputs, 1, bias=False) if residual else None
        self.dropout = nn.Dropout2d(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, H, W) -> (B, outputs, H, W)."""
        y = self.body[3:](self.dropout(self.body[:3](x)))
        if self.shortcut is not None:
            y = y + self.shortcut(x)
        return self.dropout(F.relu(y))


class Gate(nn.Module):
    """Additive attention: alpha = sigmoid(psi ReLU(W_x x + W_g g)), the output alpha x.

    x are the fine features, g those of the level below, which decide; alpha is made at the coarse
    level and enlarged (bilinear). Oktay et al., equations 1 and 2.
    """

    def __init__(self, fine: int, coarse: int) -> None:
        super().__init__()
        self.of_fine = nn.Conv2d(fine, fine, 2, stride=2, bias=False)
        self.of_coarse = nn.Conv2d(coarse, fine, 1)
        self.weight = nn.Conv2d(fine, 1, 1)

    def forward(self, x: Tensor, g: Tensor) -> Tensor:
        """(B, fine, H, W), (B, coarse, H/2, W/2) -> (B, fine, H, W)."""
        alpha = self.weight(F.relu(self.of_fine(x) + self.of_coarse(g))).sigmoid()
        return x * F.interpolate(alpha, scale_factor=2, mode="bilinear", align_corners=False)


class PosterUNet(nn.Module):
    """(B, 3, H, W) images -> (B, classes, H, W) logits: 10 convolutions down, 8 transposed up.

    Dubey. "Study of loss functions for semantic segmentation." Poster. It says no more than these
    numbers: here two convolutions on each of five levels, and for each of the four levels up a
    transposed convolution that doubles the sides and one behind the concatenation.

    Args:
        classes: channels of the logits. channels: of the five levels, from the top.
        encoder: must be "none": there is no encoder to choose.

    Errors: ConfigError for an encoder, or other than five levels.
    """

    def __init__(self, classes: int, channels: Sequence[int], encoder: str) -> None:
        super().__init__()
        refuse_encoder(encoder)
        if len(channels) != 5:
            raise ConfigError(f"model.channels={list(channels)}: the network has five levels.")
        pairs = zip([3, *channels[:-1]], channels, strict=True)
        self.down = nn.ModuleList(Block(a, b, residual=False, dropout=0.0) for a, b in pairs)
        levels = list(zip(channels[:-1], channels[1:], strict=True))[::-1]
        self.up = nn.ModuleList(nn.ConvTranspose2d(b, a, 2, stride=2) for a, b in levels)
        self.joined = nn.ModuleList(
            nn.Sequential(
                nn.ConvTranspose2d(2 * a, a, 3, padding=1, bias=False),
                nn.BatchNorm2d(a),
                nn.ReLU(inplace=True),
            )
            for a, _ in levels
        )
        self.segmentation_head = nn.Sequential(nn.Conv2d(channels[0], classes, 1))

    def forward(self, image: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, classes, H, W)."""
        x, skips = image, []
        for level, block in enumerate(self.down):
            x = block(x if level == 0 else F.max_pool2d(x, 2))
            skips.append(x)
        for level, (up, joined) in enumerate(zip(self.up, self.joined, strict=True)):
            x = joined(torch.cat([skips[-2 - level], up(x)], dim=1))
        return self.segmentation_head(x)


def refuse_encoder(name: str) -> None:
    """Errors: ConfigError for any encoder but "none"."""
    if name != "none":
        raise ConfigError(
            f"encoder={name}: this network has no encoder to choose. Leave encoder out."
        )
