"""The LightningModule. It is handed the model, the loss, the optimizer and the meter.

It knows no loss, metric, model or data set: what it imports of ours is ops and errors.
Evaluation counts each image once, whatever the number of processes: every process takes its own
share of the images, without padding, and the integer counts are put together by image number.
"""

import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Protocol

import lightning
import numpy as np
import torch
from torch import Tensor, nn

from seglab.errors import RunError
from seglab.ops import predicted_labels

SYNC_EVERY = 50  # steps between two looks at the loss on a device that runs ahead of Python


class Meter(Protocol):
    """What counts: predicted, target (B, H, W) -> (B, K, M, 3) int64 true/false pos./neg."""

    def counts(self, predicted: Tensor, target: Tensor) -> Tensor:
        """Counts of the region and of each boundary band."""
        ...


@dataclass(frozen=True)
class Evaluation:
    """One pass over a split.

    Attributes:
        counts: (N, K, M, 3) int64, image by image in the order of the split.
        loss: mean over the images of the loss of their batch.
        further: other metrics, by name.
    """

    counts: np.ndarray
    loss: float
    further: dict[str, float] = field(default_factory=dict)


def stream(seed: int, *path: int) -> int:
    """A seed for one part of a run, a function of `seed` and the part's numbers alone."""
    sequence = np.random.SeedSequence((seed, len(path), *path))  # it ignores zeros at the end
    return int(sequence.generate_state(1, np.uint32)[0])


def seed_everything(seed: int) -> None:
    """Python, NumPy and torch, on every device."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


class Further(Protocol):
    """What else is measured in an evaluation: `seglab.metrics.further`."""

    def start(self, device: torch.device) -> None:
        """Forgets what was added."""
        ...

    def add(self, logits: Tensor, predicted: Tensor, target: Tensor) -> None:
        """One batch."""
        ...

    def share(self) -> Any:
        """What this process has added, as a plain value."""
        ...

    def result(self, shares: list[Any]) -> dict[str, float]:
        """The metrics of all processes' shares."""
        ...


class Engine(lightning.LightningModule):
    """Trains a model with a loss and counts what it gets right.

    Batches are dicts: image (B, 3, H, W) uint8, target (B, H, W) uint8, index (B,) int64, and
    weights (B, H, W) float32 where the data carries the loss's weight of each pixel. Of volumes
    (B, channels, D, H, W) float32, already normalised, and (B, D, H, W).

    Args:
        infer: (image, network) -> logits of an image that is evaluated: a sliding window. None:
            the network sees it whole.
        finish: (B, H, W) int64 labels of an evaluated image -> those that are counted.
        further: other metrics of the evaluations while it trains.
        further_from: the first epoch, from 0, that has them.
    """

    def __init__(
        self,
        model: nn.Module,
        loss: nn.Module,
        make_optimizer: Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer],
        meter: Meter,
        mean: list[float],
        std: list[float],
        seed: int,
        *,
        infer: Callable[[Tensor, Callable[[Tensor], Tensor]], Tensor] | None = None,
        finish: Callable[[Tensor], Tensor] | None = None,
        further: Further | None = None,
        further_from: int = 0,
    ) -> None:
        super().__init__()
        flat = all(p.ndim < 5 for p in model.parameters())
        self.model = model.to(memory_format=torch.channels_last) if flat else model
        self.infer, self.finish = infer, finish
        self.further, self.further_from = further, further_from
        self.loss = loss
        self.make_optimizer, self.meter, self.seed = make_optimizer, meter, seed
        self.register_buffer("mean", _channels(mean), persistent=False)
        self.register_buffer("std", _channels(std), persistent=False)
        self.train_counts: Tensor | None = None
        self.train_loss: Tensor | None = None
        self.train_images = 0
        self.first_bad_step: Tensor | None = None
        self.evaluation: Evaluation | None = None
        self._shares: list[tuple[Tensor, Tensor, Tensor]] = []
        self._measured: Further | None = None

    def forward(self, image: Tensor) -> Tensor:
        """(B, 3, H, W) uint8 -> (B, C, H, W) logits; of volumes (B, channels, D, H, W) float32."""
        if image.ndim == 5:
            return self.model(image)
        normal = (image.float() / 255 - self.mean) / self.std
        return self.model(normal.contiguous(memory_format=torch.channels_last))

    def predict(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Evaluated images -> logits (B, C, H, W), and the labels (B, H, W) int64 that count."""
        logits = self(image) if self.infer is None else self.infer(image, self)
        labels = predicted_labels(logits)
        return logits, labels if self.finish is None else self.finish(labels)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """The optimizer that the configuration describes, on the parameters that learn."""
        return self.make_optimizer([p for p in self.parameters() if p.requires_grad])

    def _loss(self, logits: Tensor, target: Tensor, batch: dict[str, Tensor]) -> Tensor:
        given = (batch["weights"],) if "weights" in batch else ()
        return self.loss(logits, target, *given)

    # ------------------------------------------------------------ training

    def on_train_batch_start(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        """Begins an epoch at its first batch, when nothing else draws random numbers any more."""
        del batch
        if batch_idx == 0:
            self._begin_epoch()

    def _begin_epoch(self) -> None:
        """A fresh stream for each epoch: a resumed run draws what an unbroken one would."""
        seed_everything(stream(self.seed, 1, self.current_epoch, self.global_rank))
        if hasattr(self.loss, "set_epoch"):  # its weights change from epoch to epoch
            self.loss.set_epoch(self.current_epoch + 1)
        self.train_counts = self.train_loss = None
        self.train_images = 0
        self.first_bad_step = torch.full((), -1, dtype=torch.int64, device=self.device)

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        """One batch -> its loss."""
        logits, target = self(batch["image"]), batch["target"].long()
        loss = self._loss(logits, target, batch)
        with torch.no_grad():
            counts = self.meter.counts(predicted_labels(logits), target).sum(0)
            total = loss.detach().double() * len(target)
            first = self.train_counts is None
            self.train_counts = counts if first else self.train_counts + counts
            self.train_loss = total if first else self.train_loss + total
            self.train_images += len(target)
            bad = ~torch.isfinite(loss.detach()) & (self.first_bad_step < 0)
            self.first_bad_step = torch.where(bad, batch_idx, self.first_bad_step)
        if self.device.type == "cpu" or (batch_idx + 1) % SYNC_EVERY == 0:
            self.raise_if_diverged()
        return loss

    def raise_if_diverged(self) -> None:
        """Errors: RunError naming epoch, step and learning rate once a loss was NaN or inf."""
        step = -1 if self.first_bad_step is None else int(self.first_bad_step)
        if step >= 0:
            rate = self.trainer.optimizers[0].param_groups[0]["lr"]
            raise RunError(
                f"the loss is not finite in epoch {self.current_epoch + 1}, step {step + 1} "
                f"(learning rate {rate:g}). The checkpoint of the last whole epoch is kept. "
                "Try a smaller optimizer.lr, or trainer.precision=32."
            )

    def train_summary(self) -> Evaluation:
        """The epoch's training counts, (1, K, M, 3): pooled, of weights that moved meanwhile."""
        shares = self._gathered((self.train_counts.cpu(), self.train_loss.cpu(), self.train_images))
        counts = sum(share[0] for share in shares)
        images = sum(share[2] for share in shares)
        loss = sum(share[1] for share in shares)
        return Evaluation(counts.numpy()[None], float(loss) / images)

    # ------------------------------------------------------------ evaluation

    def on_validation_start(self) -> None:
        """No evaluation of a model that has diverged; all processes evaluate the same buffers."""
        if self.trainer.state.fn == "fit":
            self.raise_if_diverged()
        if self.trainer.world_size > 1:
            for buffer in self.model.buffers():
                torch.distributed.broadcast(buffer, src=0)
        self._shares = []
        self._measured = None
        fits = self.trainer.state.fn == "fit" and self.current_epoch >= self.further_from
        if self.further is not None and fits:
            self._measured = self.further
            self._measured.start(self.device)

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        """Counts of one batch; nothing leaves the device."""
        del batch_idx
        target = batch["target"].long()
        logits, labels = self.predict(batch["image"])
        loss = self._loss(logits, target, batch)
        counts = self.meter.counts(labels, target)
        self._shares.append((batch["index"], counts, loss.double() * len(target)))
        if self._measured is not None:
            self._measured.add(logits, labels, target)

    def on_validation_epoch_end(self) -> None:
        """Puts the shares of all processes together, each image once."""
        shares = self._shares
        mine = None
        if shares:
            index = torch.cat([share[0] for share in shares]).cpu()
            counts = torch.cat([share[1] for share in shares]).cpu()
            mine = (index, counts, torch.stack([share[2] for share in shares]).sum().cpu())
        parts = [part for part in self._gathered(mine) if part is not None]
        index = torch.cat([part[0] for part in parts])
        order = index.argsort()
        assert torch.equal(index[order], torch.arange(len(index))), "an image twice or not at all"
        counts = torch.cat([part[1] for part in parts])[order]
        loss = torch.stack([part[2] for part in parts]).sum() / len(index)
        further = {}
        if self._measured is not None:
            further = self._measured.result(self._gathered(self._measured.share()))
        self.evaluation = Evaluation(counts.numpy(), float(loss), further)
        self._shares = []

    def _gathered(self, mine: Any) -> list[Any]:
        """`mine` of every process, in the order of their ranks."""
        if self.trainer.world_size == 1:
            return [mine]
        everyone: list[Any] = [None] * self.trainer.world_size
        torch.distributed.all_gather_object(everyone, mine)
        return everyone


def _channels(values: list[float]) -> Tensor:
    return torch.tensor(values, dtype=torch.float32).view(1, -1, 1, 1)
