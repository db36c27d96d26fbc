"""What is written down after every epoch: scores, the best epoch, checkpoints, the progress bar.

All of it travels inside the checkpoint, so that a resumed run continues the same ledger. The order
at an epoch's end is: last.ckpt, then best.ckpt (a second name of it), then epochs.csv. What a kill
between any two leaves undone is made up for when the checkpoint is loaded again.
"""

import resource
import time
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import torch
from tqdm import tqdm

from seglab import checkpoint, record, scores
from seglab.engine import Engine, Evaluation
from seglab.tracking import Mirror


class Ledger(lightning.Callback):
    """Keeps the history of a run. `best_epoch` has the highest validation bIoU, the first if tied.

    Args:
        folder: the draft of the run.
        ratios: band width / image diagonal; the first gives the reported bIoU.
        further: names of the other metrics of an evaluation.
        mirror: where the scalars are sent too.
        title: what the progress bar is called.
        draws: whether this process draws and writes (rank 0).
    """

    def __init__(
        self,
        folder: Path,
        ratios: list[float],
        mirror: Mirror,
        title: str,
        further: list[str],
        *,
        draws: bool,
    ) -> None:
        self.folder, self.ratios, self.mirror, self.further = folder, ratios, mirror, further
        self.title, self.draws = title, draws
        self.rows: list[dict[str, Any]] = []
        self.best_epoch, self.best_biou = 0, -np.inf
        self.resident_bytes = 0  # of data kept on the GPU; no part of what a loss costs
        self.resumed_from: Path | None = None  # the checkpoint that is about to be loaded
        self._bar: tqdm | None = None
        self._marks: dict[str, float] = {}

    # ------------------------------------------------------------ travels in the checkpoint

    def state_dict(self) -> dict[str, Any]:
        """The history, as plain values."""
        return {
            "rows": self.rows,
            "best_epoch": self.best_epoch,
            "best_biou": float(self.best_biou),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Goes on from a checkpoint's history."""
        self.rows = list(state_dict["rows"])
        self.best_epoch, self.best_biou = state_dict["best_epoch"], state_dict["best_biou"]
        if self.draws and self.resumed_from is not None:
            if self.best_epoch == self.rows[-1]["epoch"]:
                checkpoint.link(self.resumed_from, self.folder / "best.ckpt")
            record.write_epochs(self.folder, self.rows)

    # ------------------------------------------------------------ hooks, in their order

    def on_train_start(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule
    ) -> None:
        """Opens the progress bar where the run stands."""
        del pl_module
        if self.draws:
            steps = int(trainer.num_training_batches)
            self._bar = tqdm(
                total=steps * (trainer.max_epochs or 1),
                initial=steps * trainer.current_epoch,
                desc=self.title,
                unit="step",
                dynamic_ncols=True,
            )

    def on_train_epoch_start(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule
    ) -> None:
        """Starts the clock."""
        del trainer
        if pl_module.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
        self._marks = {"start": time.perf_counter()}

    def on_train_batch_end(self, *_: Any) -> None:
        """Moves the bar."""
        if self._bar is not None:
            self._bar.update()

    def on_validation_start(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule
    ) -> None:
        """The training part of the epoch ends here."""
        del trainer
        if pl_module.device.type == "cuda":
            torch.cuda.synchronize()
        self._marks["validation"] = time.perf_counter()

    def on_train_epoch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule
    ) -> None:
        """Scores, checkpoints, epochs.csv, mirror: see the module's docstring for the order."""
        assert isinstance(pl_module, Engine)
        end = time.perf_counter()
        begin, middle = self._marks["start"], self._marks["validation"]
        validation = pl_module.evaluation
        assert validation is not None, "Lightning validates before it ends an epoch"
        training = pl_module.train_summary()
        images = {"train": pl_module.train_images * trainer.world_size}
        images["val"] = len(validation.counts)
        epoch = trainer.current_epoch + 1
        memory = peak_memory(pl_module.device, self.resident_bytes)
        rows = [
            self._row(epoch, split, evaluation, seconds, images[split], memory)
            for split, evaluation, seconds in (
                ("train", training, middle - begin),
                ("val", validation, end - middle),
            )
        ]
        weights = getattr(pl_module.loss, "weights_in_use", dict)()
        for row in rows:
            row |= {f"weight_{term}": weight for term, weight in weights.items()}
        self.rows.extend(rows)
        biou = rows[1]["biou"]
        if biou > self.best_biou or not self.best_epoch:
            self.best_epoch, self.best_biou = epoch, biou if np.isfinite(biou) else -np.inf
        last = self.folder / "last.ckpt"
        if self.draws:
            checkpoint.keep_previous(last)
        trainer.save_checkpoint(last)
        if self.draws:
            if self.best_epoch == epoch:
                checkpoint.link(last, self.folder / "best.ckpt")
            record.write_epochs(self.folder, self.rows)
        self.mirror.log(_for_mirror(rows, trainer.optimizers[0].param_groups[0]["lr"]), epoch)
        if self._bar is not None:
            self._bar.set_postfix_str(
                f"epoch {epoch}/{trainer.max_epochs}, loss {rows[0]['loss']:.3f}, "
                f"val bIoU {biou:.3f}, best {self.best_biou:.3f} in {self.best_epoch}"
            )

    def on_fit_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Closes the bar."""
        del trainer, pl_module
        self._close_bar()

    def on_exception(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        exception: BaseException,
    ) -> None:
        """Closes the bar, so that the message stands on a line of its own."""
        del trainer, pl_module, exception
        self._close_bar()

    def _close_bar(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def _row(
        self,
        epoch: int,
        split: str,
        evaluation: Evaluation,
        seconds: float,
        images: int,
        memory: dict[str, Any],
    ) -> dict[str, Any]:
        row: dict[str, Any] = {"epoch": epoch, "split": split, "loss": evaluation.loss}
        for aggregation in scores.AGGREGATIONS:
            values = scores.summarise(evaluation.counts, self.ratios, aggregation)
            if split == "train" and aggregation == "image":  # only pooled counts are kept
                values = dict.fromkeys(values, float("nan"))
            suffix = "" if aggregation == "dataset" else "_image"
            row |= {name + suffix: float(value) for name, value in values.items()}
        row |= evaluation.further or dict.fromkeys(self.further, float("nan"))
        row["seconds"] = round(seconds, 4)
        row["images_per_second"] = round(images / max(seconds, 1e-9), 3)
        row["peak_memory_bytes"] = memory["bytes"]
        row["peak_memory_share"] = round(memory["share"], 6)
        return row


def peak_memory(device: torch.device, data_bytes: int = 0) -> dict[str, Any]:
    """Peak memory so far: allocated on a GPU, else resident in main memory; bytes and share.

    `data_bytes` of the data set that are kept on the GPU for speed are not counted.
    """
    if device.type == "cuda":
        used = torch.cuda.max_memory_allocated(device) - data_bytes
        total = torch.cuda.get_device_properties(device).total_memory
        return {"bytes": used, "share": used / total, "kind": "allocated on the GPU"}
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {
        "bytes": used,
        "share": used / record.machine_memory_bytes(),
        "kind": "resident in main memory",
    }


def _for_mirror(rows: list[dict[str, Any]], lr: float) -> dict[str, Any]:
    values: dict[str, Any] = {"lr": lr}
    for row in rows:
        values |= {f"{row['split']}/{k}": v for k, v in row.items() if k not in ("epoch", "split")}
    return values
