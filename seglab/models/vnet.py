"""V-Net as published, of MONAI's blocks.

Milletari, Navab, Ahmadi. "V-Net: fully convolutional neural networks for volumetric medical image
segmentation." 3DV 2016. https://arxiv.org/abs/1606.04797 , section 2: five stages down and four up
of 1, 2, 3, 3, 3 and 3, 3, 2, 1 convolutions of 5 x 5 x 5 (their Table 1's receptive fields, 5 to
551 voxels, follow from these), each stage learning a residual; convolutions of stride 2 between
them on the way down, transposed ones on the way up, the features of the way down forwarded, PReLU.

MONAI's own VNet is wired alike and shallower (1, 1, 2, 3, 2 and 2, 2, 1, 1, with one more
convolution at the end), so its blocks are put together here. They have a batch normalisation after
each convolution, which the paper does not mention.
"""

from torch import Tensor, nn

from seglab.errors import ConfigError
from seglab.models.unets import refuse_encoder

DOWN = (2, 3, 3, 3)  # convolutions of the stages 2 to 5; stage 1 has one
UP = (3, 3, 2, 1)
HALVINGS = len(DOWN)


class VNet(nn.Module):
    """(B, in_channels, D, H, W) volumes -> (B, classes, D, H, W) logits. Random weights.

    D, H and W are multiples of 16.

    Args:
        classes: channels of the logits.
        in_channels: of the volumes; a divisor of `channels`.
        channels: of the first stage; each next one has twice as many. The paper: 16.
        activation: as MONAI names it; "prelu" is the paper's.
        dropout: share of each feature map's channels dropped in training from the input of the two
            deepest stages on the way down, of the two deepest on the way up, and from all that is
            forwarded. The paper: 0.
        encoder: must be "none": there is no encoder to choose.

    Errors: ConfigError for an encoder, for in_channels that do not divide channels, and where MONAI
        is missing.
    """

    output_stride = 2**HALVINGS

    def __init__(
        self,
        classes: int,
        in_channels: int,
        channels: int,
        activation: str,
        dropout: float,
        encoder: str,
    ) -> None:
        super().__init__()
        refuse_encoder(encoder)
        for key, value in (("in_channels", in_channels), ("channels", channels)):
            if not isinstance(value, int) or value < 1:
                raise ConfigError(f"model.{key}={value}: must be a whole number from 1.")
        if channels % in_channels:
            raise ConfigError(
                f"model.in_channels={in_channels}: must divide model.channels={channels}, because "
                "V-Net adds the volume to the channels of its first stage."
            )
        try:
            from monai.networks.nets.vnet import DownTransition, InputTransition, UpTransition
        except ImportError:
            raise ConfigError("model=vnet needs MONAI: pip install -e '.[volumes]'") from None
        self.in_channels = in_channels
        widths = [channels * 2**level for level in range(HALVINGS + 1)]
        deep = [None, None, dropout or None, dropout or None]
        self.first = InputTransition(3, in_channels, channels, activation)
        self.down = nn.ModuleList(
            DownTransition(3, width, depth, activation, dropped)
            for width, depth, dropped in zip(widths, DOWN, deep, strict=False)
        )
        rising = zip(widths[:0:-1], [widths[-1], *widths[:1:-1]], UP, deep[::-1], strict=True)
        self.up = nn.ModuleList(
            UpTransition(3, below, width, depth, activation, (dropped, dropout))
            for width, below, depth, dropped in rising
        )
        self.segmentation_head = nn.Conv3d(widths[1], classes, 1)

    def forward(self, image: Tensor) -> Tensor:
        """(B, in_channels, D, H, W) -> (B, classes, D, H, W)."""
        features = [self.first(image)]
        for stage in self.down:
            features.append(stage(features[-1]))
        x = features.pop()
        for stage in self.up:
            x = stage(x, features.pop())
        return self.segmentation_head(x)
