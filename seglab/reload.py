"""A finished run, back from its folder: its configuration and its network under the best weights.

Nothing is downloaded and no code of the run is executed: the weights are safetensors.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
import yaml
from omegaconf import OmegaConf
from torch import Tensor, nn

from seglab import checkpoint, config, inference
from seglab.config import Settings
from seglab.errors import RunError
from seglab.ops import predicted_labels


@dataclass(frozen=True)
class FinishedRun:
    """What a run was, and what it learnt."""

    folder: Path
    record: dict[str, Any]
    settings: Settings
    network: nn.Module

    def logits(self, image: Tensor) -> Tensor:
        """(B, 3, H, W) uint8 RGB of the size it was trained at -> (B, C, H, W).

        Of a volume (1, channels, D, H, W) float32 of any size, through the sliding window.
        """
        own = self.settings.dataset
        if own.patch is not None:
            with torch.inference_mode():
                return self._infer(image, self.network)
        mean = torch.tensor(own.mean).view(1, -1, 1, 1)
        std = torch.tensor(own.std).view(1, -1, 1, 1)
        with torch.inference_mode():
            return self.network((image.float() / 255 - mean) / std)

    def predict(self, image: Tensor) -> Tensor:
        """(B, 3, H, W) uint8 RGB -> (B, H, W) int64 labels, postprocessed."""
        return self.finished(predicted_labels(self.logits(image)))

    def finished(self, labels: Tensor) -> Tensor:
        """(B, H, W) int64 labels of the network -> those that the run counts."""
        return self._postprocess(labels)

    @cached_property
    def _infer(self) -> Callable[[Tensor, nn.Module], Tensor]:
        own = self.settings.dataset
        return inference.sliding_window(own.patch, own.patch_overlap)

    @cached_property
    def _postprocess(self) -> Callable[[Tensor], Tensor]:
        return config.build(self.settings, "postprocess")

    def probabilities(self, image: Tensor) -> Tensor:
        """(B, 3, H, W) uint8 RGB -> (B, C, H, W): sigmoid for C = 1, softmax else."""
        logits = self.logits(image)
        return logits.sigmoid() if logits.shape[1] == 1 else logits.softmax(dim=1)


def load(folder: Path) -> FinishedRun:
    """The run in `folder`. Errors: RunError where a file of it is missing."""
    for name in ("record.json", "config.yaml", "weights.safetensors"):
        if not (folder / name).exists():
            raise RunError(f"{folder}: has no {name}, so it is no finished run.")
    record = json.loads((folder / "record.json").read_text(encoding="utf-8"))
    tree = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))
    for section in ("encoder", "model"):
        if "weights" in tree[section]:
            tree[section]["weights"] = None  # the run's own come next
    settings = config.read(OmegaConf.create(tree), record["choices"])
    classes = record["dataset"]["classes"]
    network: nn.Module = config.build(settings, "model", classes=len(classes))
    network.load_state_dict(checkpoint.load_weights(folder / "weights.safetensors"))
    return FinishedRun(folder, record, settings, network.eval())
