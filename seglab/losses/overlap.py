"""Losses of overlap: Dice and IoU over all classes of an image together, Tversky class by class.

y = one-hot truth, p = probability, both zero where ignored; sums run over the pixels of one image
(binary: over the foreground channel alone). Equation numbers are those of Gul's thesis.
"""

from torch import Tensor, nn

from seglab.losses.sums import Sums, soft_sums
from seglab.ops import one_hot, probabilities


def dice(sums: Sums, smooth: float) -> Tensor:
    """Eq. 2.2:  1 - (1 + 2 sum y p) / (1 + sum y + sum p), averaged over the images -> ().

    `smooth` stands for the printed 1. An image without a valid pixel gives 1 - 1 / 1 = 0.
    """
    hit, truth = sums.inside.sum(dim=1), sums.truth.sum(dim=1)  # (B,)
    predicted = hit + sums.outside.sum(dim=1)
    return (1 - (smooth + 2 * hit) / (smooth + truth + predicted)).mean()


def iou(sums: Sums, smooth: float) -> Tensor:
    """Eq. 2.3:  1 - (1 + sum y p) / (1 + sum (y + p - y p)), averaged over the images -> ().

    y + p - y p is 1 on the truth and p off it. `smooth` stands for the printed 1. An image
    without a valid pixel gives 0.
    """
    hit = sums.inside.sum(dim=1)  # (B,)
    union = sums.truth.sum(dim=1) + sums.outside.sum(dim=1)
    return (1 - (smooth + hit) / (smooth + union)).mean()


class Dice(nn.Module):
    """Eq. 2.2 of each image, averaged over the batch."""

    def __init__(self, smooth: float) -> None:
        super().__init__()
        self.smooth = smooth

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """logits (B, C, H, W), target (B, H, W) integers -> ()."""
        return dice(soft_sums(logits, target), self.smooth)


class IoU(nn.Module):
    """Eq. 2.3 of each image, averaged over the batch."""

    def __init__(self, smooth: float) -> None:
        super().__init__()
        self.smooth = smooth

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """logits (B, C, H, W), target (B, H, W) integers -> ()."""
        return iou(soft_sums(logits, target), self.smooth)


def tversky_index(sums: Sums, alpha: float, beta: float, smooth: float) -> Tensor:
    """(TP + s) / (TP + alpha FN + beta FP + s) of each image and class -> (B, K).

    Salehi, Erdogmus, Gholipour. "Tversky loss function for image segmentation using 3D fully
    convolutional deep networks." MLMI 2017. https://arxiv.org/abs/1706.05721 , equation 3.
    """
    hit, missed = sums.inside, sums.truth - sums.inside
    return (hit + smooth) / (hit + alpha * missed + beta * sums.outside + smooth)


class Tversky(nn.Module):
    """1 - Tversky index, averaged over the images and the classes.

    Args:
        alpha: weight of a false negative. beta: of a false positive. Both 0.5: Dice, both 1: IoU.
        smooth: s, which keeps a class that is neither there nor predicted at no loss.
    """

    def __init__(self, alpha: float, beta: float, smooth: float) -> None:
        super().__init__()
        self.alpha, self.beta, self.smooth = alpha, beta, smooth

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """logits (B, C, H, W), target (B, H, W) integers -> ()."""
        index = tversky_index(soft_sums(logits, target), self.alpha, self.beta, self.smooth)
        return (1 - index).mean()


class FocalTversky(Tversky):
    """(1 - Tversky index)^gamma, summed over the classes, averaged over the images.

    Abraham, Khan. "A novel focal Tversky loss function with improved attention U-Net for lesion
    segmentation." ISBI 2019. https://arxiv.org/abs/1810.07842 , equation 4, whose exponent is
    1 / gamma; here as the poster and Bakos print it.

    Errors: ValueError for gamma outside 1 .. 3, the range both give.
    """

    def __init__(self, alpha: float, beta: float, gamma: float, smooth: float) -> None:
        super().__init__(alpha, beta, smooth)
        if not 1 <= gamma <= 3:
            raise ValueError(f"gamma={gamma}: must be from 1 to 3")
        self.gamma = gamma

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """logits (B, C, H, W), target (B, H, W) integers -> ()."""
        index = tversky_index(soft_sums(logits, target), self.alpha, self.beta, self.smooth)
        return (1 - index).clamp_min(0).pow(self.gamma).sum(dim=1).mean()


class DiceSquared(nn.Module):
    """1 - (2 sum y p + s) / (sum y + sum p^g + s) of each image, averaged over the batch.

    Milletari, Navab, Ahmadi. "V-Net." 3DV 2016. https://arxiv.org/abs/1606.04797 , section 3, has
    g = 2 and s = 0. The sum of p^g is none of the sums that the other losses share, so this one
    goes through probabilities as large as the logits.

    Args:
        exponent: g, at least 1. smooth: s.

    Errors: ValueError for an exponent below 1.
    """

    def __init__(self, exponent: float, smooth: float) -> None:
        super().__init__()
        if exponent < 1:
            raise ValueError(f"exponent={exponent}: must be at least 1")
        self.exponent, self.smooth = exponent, smooth

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """logits (B, C, H, W), target (B, H, W) integers -> ()."""
        p = probabilities(logits, target).flatten(2)  # (B, K, N)
        y = one_hot(target, logits.shape[1]).flatten(2)
        hit, truth = (p * y).sum(dim=(1, 2)), y.sum(dim=(1, 2))
        mass = p.pow(self.exponent).sum(dim=(1, 2))
        score = (2 * hit + self.smooth) / (truth + mass + self.smooth)
        return (1 - score).mean()
