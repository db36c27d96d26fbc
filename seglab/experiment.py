"""One experiment: check, build, fit, evaluate, record. The order of things, and nothing else.

All that can fail by the user's doing fails before training: device, folders, data, sizes, weights.
"""

import logging
import math
import os
import signal
import warnings
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import pandas as pd
import torch
import yaml
from lightning.pytorch.strategies import DDPStrategy
from lightning.pytorch.utilities.rank_zero import rank_zero_only
from torch import nn

from seglab import (
    allocator,
    checkpoint,
    config,
    figures,
    files,
    inference,
    record,
    samples,
    scores,
    tracking,
)
from seglab.config import Settings
from seglab.console import say
from seglab.data.source import Source
from seglab.engine import Engine, Evaluation, seed_everything, stream
from seglab.errors import ConfigError, RunError, UserError
from seglab.feed import Data, Feed, look_at_spacing, open_data
from seglab.ledger import Ledger, peak_memory
from seglab.metrics.further import Further
from seglab.metrics.meter import Meter
from seglab.models import sizes
from seglab.models import smp as models
from seglab.ops import IGNORE

CHECKPOINTS = ("best", "last")


class Interrupted(UserError):
    """The run was told to stop; the same command goes on from its last whole epoch."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


@dataclass(frozen=True)
class Device:
    """What a run computes on."""

    kind: str  # cpu | cuda
    name: str
    precision: str  # 32 | 16-mixed | bf16-mixed

    @property
    def on_gpu(self) -> bool:
        """Whether this is a GPU."""
        return self.kind == "cuda"


def run(settings: Settings) -> Path:
    """Does one experiment, or goes on with it, or finds it done. Returns its folder.

    Errors: UserError, before training, for whatever the user can mend; RunError for a loss that
    is not finite and for a full disk; Interrupted where the run was told to stop.
    """
    quieten()
    allocator.keep_memory()
    watch = record.Stopwatch()
    main = rank_zero_only.rank == 0
    with watch.phase("setup"):
        device = choose_device(settings)
        record.check_writable(settings.results_dir)
        look_first(settings)
        data = open_data(settings, main=main)
        science, folder = identify(settings, device, data.fingerprint)
    done = finished_before(settings, science, folder)
    if done is not None:
        return done
    with ExitStack() as stack:
        if main:
            stack.enter_context(folder.locked())
            alone = settings.trainer.world_size == 1  # else the others have begun by now
            done = finished_before(settings, science, folder) if alone else None
            if done is not None:  # another process did it since we looked
                return done
            folder.open_draft()
        Run(settings, device, data, science, folder, watch, main=main).do()
    return folder.final


def finished_before(
    settings: Settings, science: dict[str, Any], folder: record.RunFolder
) -> Path | None:
    """The finished run that stands for this one, said to the user; None where it is to be done.

    A stale one stands, too, unless rerun=stale.
    """
    if folder.is_finished():
        found = folder.final
    else:
        others = folder.before_the_data_changed(science, settings.tree["dataset"].get("root"))
        if not others:
            return None
        found = others[0]
    stale = record.stale_reason(record.read_record(found), science)
    if settings.rerun == "yes" or (settings.rerun == "stale" and stale):
        return None
    if stale:
        say(
            f"{found.name} is stale: {stale}. It is left as it is: {found}\n(rerun=stale redoes it)"
        )
    else:
        say(f"{found.name} is finished: {found}\n(rerun=true does it again)")
    return found


def look_first(settings: Settings) -> None:
    """Builds what needs no data, so that its mistakes are told before the data is read.

    Errors: ConfigError.
    """
    for room in ("augmentation", "postprocess", "loss"):
        config.build(settings, room)
    Further(1, settings.metrics.further)


def choose_device(settings: Settings) -> Device:
    """The device and the precision. Errors: ConfigError where the machine has no such device."""
    trainer = settings.trainer
    available = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if trainer.accelerator == "gpu" and not available:
        raise ConfigError(
            "trainer.accelerator=gpu: this machine shows no CUDA GPU (torch.cuda.is_available() "
            "is false). Take trainer=cpu, or mend the driver."
        )
    on_gpu = trainer.accelerator != "cpu" and available > 0
    if on_gpu and trainer.devices > available:
        raise ConfigError(
            f"trainer.devices={trainer.devices}: this machine shows {available} GPU(s). "
            f"Take trainer.devices={available}."
        )
    precision, volumes = trainer.precision, settings.dataset.patch is not None
    if precision == "auto":
        halves = cpu_computes_bf16() and not volumes
        precision = "16-mixed" if on_gpu else "bf16-mixed" if halves else "32"
    if precision == "bf16-mixed" and not on_gpu and volumes:
        raise ConfigError(
            "trainer.precision=bf16-mixed: on a CPU, PyTorch's three-dimensional convolutions give "
            "other gradients in bfloat16 each time, and some are not finite. "
            "Take trainer.precision=32."
        )
    if precision == "16-mixed" and not on_gpu:
        raise ConfigError(
            "trainer.precision=16-mixed: half precision needs a GPU. "
            "Take trainer.precision=32 or bf16-mixed on a CPU."
        )
    name = torch.cuda.get_device_name() if on_gpu else "cpu"
    return Device("cuda" if on_gpu else "cpu", name, precision)


def cpu_computes_bf16() -> bool:
    """Whether this CPU multiplies bfloat16 in hardware; otherwise float32 is faster."""
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def identify(
    settings: Settings, device: Device, fingerprint: str | None
) -> tuple[dict[str, Any], record.RunFolder]:
    """What the run is, and the folder that is named after it; fingerprint: of the data."""
    trainer = settings.trainer
    training = {
        "precision": device.precision,
        "epochs": trainer.epochs,
        "batch_size": trainer.batch_size,
        "max_steps": trainer.max_steps,
        "max_images": trainer.max_images,
        "compile": trainer.compile,
    }
    encoder = settings.tree["encoder"]
    weights = models.identity(encoder["weights"])
    science = record.science(settings.tree, training, weights, fingerprint)
    hash_ = files.sha256_json(science)
    id_ = record.run_id(settings.choices, encoder["name"], settings.seed, hash_)
    return science, record.RunFolder(settings.results_dir, id_)


class Run:
    """One experiment under way, in its draft folder."""

    def __init__(
        self,
        settings: Settings,
        device: Device,
        data: Data,
        science: dict[str, Any],
        folder: record.RunFolder,
        watch: record.Stopwatch,
        *,
        main: bool,
    ) -> None:
        self.settings, self.device, self.data = settings, device, data
        self.folder, self.watch, self.main = folder, watch, main
        self.draft = folder.draft
        self.mirror = tracking.Mirror()
        self.started = record.now()
        earlier = record.read_record(self.draft) if main else {}
        self.earlier_code: dict[str, str] = earlier.get("code") or {}
        self.record: dict[str, Any] = {
            "schema": record.SCHEMA,
            "run_id": folder.id,
            "hash": files.sha256_json(science),
            "science": science,
            "choices": settings.choices,
            "seed": settings.seed,
            "started": earlier.get("started", self.started),
            "pid": os.getpid(),
            "precision": device.precision,
            "device": {
                "kind": device.kind,
                "name": device.name,
                "count": settings.trainer.world_size,
            },
            "dataset": {
                "classes": list(data.source.classes),
                "test_split": data.source.test_split,
                "test_images": data.source.test_images(),
            },
        }

    # ------------------------------------------------------------ the whole, and how it can end

    def do(self) -> None:
        """Fits, evaluates, records, publishes; whatever stops it is written down."""
        handlers = {s: signal.getsignal(s) for s in (signal.SIGTERM, signal.SIGINT)}
        try:
            with self.watch.phase("setup"):
                self._build()
            self._write_record("running")
            if self.main:
                self.mirror = tracking.mirror(
                    self.settings.logger, self.folder.id, self.draft, self.settings.tree
                )
            self.ledger.mirror = self.mirror
            self._fit()
            evaluations = self._evaluate()
            if self.main:
                self._conclude(evaluations)
        except BaseException as error:
            self._end_badly(error)
        finally:
            for signal_, handler in handlers.items():
                signal.signal(signal_, handler)

    def _end_badly(self, error: BaseException) -> None:
        """Status and reason go into the record; then the error goes on."""
        ending: BaseException
        by_signal = self.trainer is not None and self.trainer.received_sigterm
        told = _is_keyboard(error) or (by_signal and isinstance(error, SystemExit))
        if told:
            code = 143 if by_signal else 130
            how = "SIGTERM" if by_signal else "the keyboard"
            ending = Interrupted(
                f"{self.folder.id}: interrupted by {how}. "
                "The same command goes on from the last whole epoch.",
                code,
            )
            status, reason = "interrupted", how
        else:
            if isinstance(error, SystemExit):
                ending = RunError(
                    f"{self.folder.id}: a module that it uses ended it with exit({error.code})."
                )
            else:
                ending = _in_plain_words(error, self.settings)
            status, reason = "failed", str(ending).splitlines()[0] if str(ending) else repr(ending)
        if self.main:
            self.mirror.close(1)
            self._write_record(status, reason=reason)
        if ending is error:
            raise error
        raise ending from error

    def _write_record(self, status: str, **more: Any) -> None:
        if self.main:
            self.record |= {"status": status, "reason": None, **more}
            record.write_record(self.draft, self.record)

    # ------------------------------------------------------------ its steps

    trainer: lightning.Trainer | None = None

    def _build(self) -> None:
        settings, data, own = self.settings, self.data, self.settings.dataset
        classes, channels = data.source.num_classes, data.source.channels
        self.feed = Feed(settings, data, on_gpu=self.device.on_gpu, main=self.main)
        trained, evaluated = self.feed.trained, self.feed.evaluated
        seed_everything(stream(settings.seed, 0))
        network: nn.Module = config.build(settings, "model", classes=classes)
        refuse_wrong_network(settings, network, data.source)
        for shape in dict.fromkeys((trained, evaluated)):
            sizes.check_size(network, shape, classes, channels)
        share = settings.trainer.batch_size // settings.trainer.world_size
        least = sizes.minimum_batch(network, trained, channels)
        if share < least:
            raise ConfigError(
                f"trainer.batch_size={settings.trainer.batch_size}: each process would train on "
                f"{share} image(s) at a time, and model={settings.choices['model']} needs {least} "
                "(batch normalisation over a single value). Take a larger batch."
            )
        loss: nn.Module = config.build(settings, "loss")
        make_optimizer = config.build(settings, "optimizer", _partial_=True)
        try_out(settings, loss, make_optimizer, data)
        if self.main:
            look_at_spacing(settings, data, loss)
        if settings.trainer.compile:
            network.compile()
        ratios, further = settings.metrics.boundary_ratios, settings.metrics.further
        last = settings.metrics.further_last
        self.meter = Meter(classes, ratios)
        self.engine = Engine(
            network,
            loss,
            make_optimizer,
            self.meter,
            own.mean,
            own.std,
            settings.seed,
            infer=inference.sliding_window(own.patch, own.patch_overlap) if own.patch else None,
            finish=config.build(settings, "postprocess"),
            further=Further(classes, further) if further else None,
            further_from=settings.trainer.epochs - (last or settings.trainer.epochs),
        )
        title = f"{settings.choices['loss']} {settings.choices['model']}"
        columns = self.engine.further.columns if self.engine.further else []
        self.ledger = Ledger(self.draft, ratios, self.mirror, title, columns, draws=self.main)
        self.trainer = make_trainer(settings, self.device, self.ledger)
        self.loaders = self.feed.loaders(loss)
        self.ledger.resident_bytes = self.feed.resident_bytes
        self.record |= {
            **record.provenance(settings.tree),
            "parameters": sum(p.numel() for p in network.parameters()),
            "boundary_widths": dict(
                zip(map(str, ratios), self.meter.widths(evaluated), strict=True)
            ),
        }
        if self.main:
            files.write_text(
                self.draft / "config.yaml", yaml.safe_dump(settings.tree, sort_keys=False)
            )

    def _fit(self) -> None:
        assert self.trainer is not None
        resume, warning = checkpoint.newest_whole(self.draft / "last.ckpt")
        if warning:
            say(f"Warning: {warning}")
        if resume is not None:
            say(f"{self.folder.id}: going on from {resume.name}")
            self._note_changed_code()
        self.ledger.resumed_from = resume
        with self.watch.phase("fit"):
            self.trainer.fit(
                self.engine, self.loaders["train"], self.loaders["val"], ckpt_path=resume
            )

    def _note_changed_code(self) -> None:
        """Says, and keeps, that the epochs so far were made by other source files.

        The record has the earlier ones, so the finished run is stale from the start.
        """
        changed = record.changed_code(self.earlier_code)
        if changed:
            shown = ", ".join(changed[:3]) + ", ..." * (len(changed) > 3)
            say(
                f"Warning: the code that makes its numbers has changed since it began: {shown}. "
                f"It will count as stale. To start anew: delete {self.draft}"
            )
            self.record["code"] |= {name: self.earlier_code[name] for name in changed}

    def _evaluate(self) -> dict[str, dict[str, Evaluation]]:
        """checkpoint -> split -> counts of every image, under the best and the last weights."""
        assert self.trainer is not None
        found: dict[str, dict[str, Evaluation]] = {}
        with self.watch.phase("evaluate"):
            found["best"] = found["last"] = self._evaluate_splits()
            if self.ledger.best_epoch < self.settings.trainer.epochs:
                best = torch.load(self.draft / "best.ckpt", map_location="cpu", weights_only=True)
                self.engine.load_state_dict(best["state_dict"])
                found["best"] = self._evaluate_splits()
        return found

    def _evaluate_splits(self) -> dict[str, Evaluation]:
        assert self.trainer is not None
        results = {}
        for name, loader in self.loaders.items():
            if name != "train":
                self.trainer.validate(self.engine, loader, verbose=False)
                assert self.engine.evaluation is not None
                results[name] = self.engine.evaluation
        return results

    def _conclude(self, evaluations: dict[str, dict[str, Evaluation]]) -> None:
        """Everything that a finished run has, then the rename."""
        data, ledger, ratios = self.data, self.ledger, self.settings.metrics.boundary_ratios
        with self.watch.phase("record"):
            widths = {split: self._widths(split) for split in evaluations["best"]}
            table = pd.concat(
                counts_table(name, split, data.splits[split].ids, e.counts, ratios, widths[split])
                for name in CHECKPOINTS
                for split, e in evaluations[name].items()
            )
            record.write_images(self.draft, table)
            checkpoint.save_weights(
                self.engine.model.state_dict(),
                self.draft / "weights.safetensors",
                {"run_id": self.folder.id, "epoch": str(ledger.best_epoch)},
            )
            picture = self._picture()
            if may_share(self.settings, data.source):
                self.mirror.picture("samples", picture)
        results = {
            split: {a: scores.summarise(e.counts, ratios, a) for a in scores.AGGREGATIONS}
            for split, e in evaluations["best"].items()
        }
        self.mirror.summary({"best_epoch": ledger.best_epoch, **_flat(results)})
        self.mirror.close(0)
        trained = [row for row in ledger.rows if row["split"] == "train"]
        memory = peak_memory(torch.device(self.device.kind))
        self._write_record(
            "finished",
            finished=record.now(),
            epochs=self.settings.trainer.epochs,
            best_epoch=ledger.best_epoch,
            scores=results,
            train_seconds=round(sum(row["seconds"] for row in trained), 3),
            seconds={k: round(v, 3) for k, v in self.watch.seconds.items()},
            peak_memory_bytes=max(row["peak_memory_bytes"] for row in ledger.rows),
            peak_memory_share=max(row["peak_memory_share"] for row in ledger.rows),
            peak_memory_kind=memory["kind"],
            data_on_device_bytes=self.feed.resident_bytes,
            tracker=self.mirror.state,
            files=record.digests(self.draft) if self.main else None,
        )
        if not self.settings.keep_checkpoints:
            for name in CHECKPOINTS:
                (self.draft / f"{name}.ckpt").unlink(missing_ok=True)
        root = self.settings.tree["dataset"].get("root")
        replaced = self.folder.before_the_data_changed(self.record["science"], root)
        if self.folder.final.exists():
            replaced.append(self.folder.final)
        self.folder.publish(instead_of=replaced)
        say(closing_words(self.record, self.folder.final))

    def _widths(self, name: str) -> np.ndarray:
        """(N, R) pixels of the boundary bands of each image of an evaluated split."""
        return np.array([self.meter.widths(shape) for shape in self.feed.shapes(name)])

    def _picture(self) -> Path:
        """figures/samples.png: a fixed sample of the reported split under the best weights."""
        data, name = self.data, self.data.source.test_split
        place = self.feed.place
        engine = self.engine.eval().to(place)
        with torch.no_grad():
            rows = samples.sample_rows(
                self.feed.images(name),
                lambda image: engine.predict(image.to(place))[1],
                lambda shape: self.meter.widths(shape)[0],
            )
        widths = set(self._widths(name)[:, 0].tolist())
        one = len(widths) == 1
        extent = f"{widths.pop()} px" if one else f"{self.meter.ratios[0]:g} of the diagonal"
        path = self.draft / "figures" / "samples.png"
        figure = figures.samples_figure(
            rows,
            data.source.colours,
            data.source.classes,
            title=f"{self.folder.id}, boundary {extent}",
        )
        figures.save(figure, path)
        return path


# ---------------------------------------------------------------- pieces


def _is_keyboard(error: BaseException) -> bool:
    """Whether Ctrl-C ended the run; Lightning turns it into an exit."""
    if isinstance(error, SystemExit):
        return isinstance(error.__context__, KeyboardInterrupt)
    return isinstance(error, KeyboardInterrupt)


def refuse_wrong_network(settings: Settings, network: nn.Module, source: Source) -> None:
    """Errors: ConfigError where a network of images is given volumes, or the other way round."""
    kinds = [type(layer) for layer in network.modules()]
    model, name = settings.choices["model"], settings.choices["dataset"]
    if source.dimensions == 3 and nn.Conv2d in kinds:
        raise ConfigError(
            f"model={model} is for images, and dataset={name} has volumes. Take model=vnet, or "
            "their slices (dataset=nifti_slices)."
        )
    if source.dimensions == 2 and nn.Conv3d in kinds:
        raise ConfigError(
            f"model={model} is for volumes, and dataset={name} has images. Take model=unet, for "
            "instance."
        )
    taken = getattr(network, "in_channels", source.channels)
    if taken != source.channels:
        raise ConfigError(
            f"model.in_channels={taken}: the samples of dataset={name} have {source.channels} "
            f"channel(s). Set model.in_channels={source.channels}."
        )


def try_out(settings: Settings, loss: nn.Module, make_optimizer: Any, data: Data) -> None:
    """One tiny step, because a wrong value often shows only when it is used.

    Where the data has ignored pixels, some are among these: a loss from elsewhere may learn from
    them in silence.

    Errors: ConfigError that names the file of the loss or of the optimizer.
    """
    classes, sides = data.source.num_classes, (4,) * data.source.dimensions
    logits = nn.Parameter(torch.zeros(2, classes, *sides))
    target = torch.arange(2 * math.prod(sides)).view(2, *sides) % max(2, classes)
    if data.ignored:
        target[:, 0] = IGNORE
    for room, action in (
        ("loss", lambda: _step(loss, logits, target)),
        ("optimizer", lambda: make_optimizer([logits]).step()),
    ):
        try:
            action()
        except Exception as error:  # whatever a loss or an optimizer raises
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            file, said = config.file_of(settings, room), config.numbers_of(settings, room)
            raise ConfigError(
                f"{file}: the {room} fails on a tiny batch{said}: {reason}"
            ) from error


def _step(loss: nn.Module, logits: nn.Parameter, target: torch.Tensor) -> None:
    value = loss(logits, target)
    if not isinstance(value, torch.Tensor) or value.ndim:
        raise ValueError(
            f"it must return a scalar tensor, and returned {type(value).__name__}"
            f" {tuple(getattr(value, 'shape', ()))}"
        )
    value.backward()
    assert logits.grad is not None
    if logits.grad.movedim(1, -1)[target == IGNORE].any():
        raise ValueError(
            f"pixels labelled {IGNORE} are ignored, and this loss learns from them. "
            f"If it knows an ignore_index, set it to {IGNORE}; else take data without such pixels."
        )


def make_trainer(settings: Settings, device: Device, ledger: Ledger) -> lightning.Trainer:
    """Lightning's trainer with our checkpoints, our samplers and our ledger."""
    wanted = settings.trainer
    strategy: Any = "auto"
    if wanted.world_size > 1:
        strategy = DDPStrategy(
            process_group_backend="nccl" if device.on_gpu else "gloo",
            broadcast_buffers=False,  # the engine does it once, before an evaluation
            gradient_as_bucket_view=True,
        )
    return lightning.Trainer(
        accelerator="gpu" if device.on_gpu else "cpu",
        devices=wanted.devices,
        num_nodes=wanted.num_nodes,
        strategy=strategy,
        precision=device.precision,  # type: ignore[arg-type]
        max_epochs=wanted.epochs,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        plugins=[checkpoint.VerifiedCheckpointIO()],
        callbacks=[ledger],
    )


def counts_table(
    name: str,
    split: str,
    ids: list[str],
    counts: np.ndarray,
    ratios: list[float],
    widths: np.ndarray,
) -> pd.DataFrame:
    """(N, K, 1 + R, 3) counts as rows (image, class); binary: the class is 1, the foreground.

    Args:
        widths: (R,) of the bands in pixels, or (N, R) where the images differ in size.
    """
    images, classes = counts.shape[:2]
    flat = counts.reshape(images * classes, -1, 3)
    first = 1 if classes == 1 else 0
    columns: dict[str, Any] = {
        "checkpoint": name,
        "split": split,
        "image": np.repeat(np.array(ids, dtype=object), classes),
        "class": np.tile(np.arange(first, first + classes), images),
    }
    for position, prefix in enumerate(["", *(f"boundary_{ratio:g}_" for ratio in ratios)]):
        for column, what in enumerate(("tp", "fp", "fn")):
            columns[prefix + what] = flat[:, position, column]
    each = np.broadcast_to(widths, (images, len(ratios)))
    for ratio, width in zip(ratios, each.T, strict=True):
        columns[f"boundary_{ratio:g}_d"] = np.repeat(width, classes)
    return pd.DataFrame(columns)


def may_share(settings: Settings, source: Source) -> bool:
    """Whether pictures may go to the tracker: by licence, unless the user decides."""
    wanted = settings.logger.images
    return source.share_images if wanted == "auto" else wanted == "true"


def closing_words(record_: dict[str, Any], folder: Path) -> str:
    """The scores of a finished run, and where the rest is."""
    lines = [f"{record_['run_id']}: best epoch {record_['best_epoch']} of {record_['epochs']}"]
    for split, by_aggregation in record_["scores"].items():
        values = by_aggregation["dataset"]
        lines.append("  " + f"{split:<5}" + "  ".join(f"{k} {v:.4f}" for k, v in values.items()))
    return "\n".join([*lines, f"  {folder}"])


def _flat(results: dict[str, Any]) -> dict[str, float]:
    return {
        f"{split}/{name}" + ("" if aggregation == "dataset" else f"_{aggregation}"): value
        for split, by_aggregation in results.items()
        for aggregation, values in by_aggregation.items()
        for name, value in values.items()
    }


def _in_plain_words(error: BaseException, settings: Settings) -> BaseException:
    """Faults of the machine that the user can mend, worded; others as they are."""
    if isinstance(error, torch.OutOfMemoryError):
        return RunError(
            "the GPU's memory does not suffice for this model, size and batch "
            f"(trainer.batch_size={settings.trainer.batch_size}). Take a smaller batch, a smaller "
            "dataset.size, or more devices."
        )
    if isinstance(error, RuntimeError) and "DataLoader worker" in str(error):
        return RunError(
            f"a process that loads data died ({str(error).splitlines()[0]}). Often /dev/shm or "
            "main memory is too small: take a smaller data.workers."
        )
    if isinstance(error, OSError) and error.errno == 28:
        return RunError(f"the disk is full ({error.filename or settings.results_dir}).")
    return error


def quieten() -> None:
    """Lightning's hints about loggers, workers and tips would drown what matters."""
    for name in ("lightning.pytorch", "lightning.fabric", "lightning"):
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    for pattern in (
        ".*does not have many workers.*",
        ".*Checkpoint directory .* exists.*",
        ".*GPU available but not used.*",
        ".*The `srun` command is available.*",
        ".*isinstance\\(treespec, LeafSpec\\).*",
        ".*`training_step` returned `None`.*",
        ".*`broadcast_buffers` is deprecated.*",
    ):
        warnings.filterwarnings("ignore", pattern)
