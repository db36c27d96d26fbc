"""Tensor helpers under losses/ and metrics/. Imports torch and nothing of ours.

Shape letters used in this package:
    B images in the batch, C classes (channels of the logits), K classes that are counted
    (K = 1 for a binary task, else C), H rows, W columns, D slices of a volume,
    N pixels of an image or voxels of a volume, flattened.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

IGNORE = 255  # label of a pixel that counts in no loss and no metric


def compute_dtype(logits: Tensor) -> torch.dtype:
    """float64 for float64 logits, float32 for every other: half precision is for storage only.

    In float16 a sum of pixels is infinite from 65504 on, and 1e-10 is already 0.
    """
    return torch.float64 if logits.dtype == torch.float64 else torch.float32


def one_hot(target: Tensor, num_classes: int) -> Tensor:
    """(B, H, W) labels -> (B, K, H, W) float32, all zeros where ignored.

    One class is the binary task: K = 1, and the plane is the foreground (label 1). Volumes
    (B, D, H, W) give (B, K, D, H, W).

    Errors: RuntimeError (from torch) for a label that is neither ignored nor below num_classes;
    in the binary task such a label is background.
    """
    if num_classes == 1:
        return (target == 1).unsqueeze(1).float()
    valid = target != IGNORE
    planes = F.one_hot(target.long().masked_fill(~valid, 0), num_classes)  # (B, H, W, C)
    return (planes.movedim(-1, 1) * valid.unsqueeze(1)).float()


def probabilities(logits: Tensor, target: Tensor) -> Tensor:
    """(B, C, H, W) logits, (B, H, W) labels -> (B, C, H, W), all zeros where ignored.

    Sigmoid for C = 1, softmax for C >= 2; float32 (float64 for float64 logits).
    """
    z = logits.to(compute_dtype(logits))
    p = z.sigmoid() if z.shape[1] == 1 else z.softmax(dim=1)
    return p * (target != IGNORE).unsqueeze(1)


def predicted_labels(logits: Tensor) -> Tensor:
    """(B, C, H, W) logits -> (B, H, W) int64, the most probable label of each pixel.

    C = 1: 1 where the logit is above 0, that is where the probability is above one half.
    """
    return (logits[:, 0] > 0).long() if logits.shape[1] == 1 else logits.argmax(dim=1)
