"""Finished runs made by hand: the files that the tables read, and nothing else."""

import itertools
import json

import pandas as pd

RATIOS = [0.02, 0.005]


def counts(iou):
    """(tp, fp, fn) of 1000 pixels with that IoU."""
    tp = round(1000 * iou)
    return tp, 1000 - tp, 0


def make_run(results, *, dataset="nuclei", model="unet", encoder="resnet34", loss="ce", seed=42,
             biou=0.5, iou=0.8, narrow=0.3, last=0.4, curve=(0.1, 0.5), fold=None, lr=3e-4,
             shuffled=False, classes=1, alpha=0, seconds=3.0, share=0.25,
             device="cpu"):  # fmt: skip
    """One run: two images, the second 0.1 lower; a class more is 0.2 lower, and larger.

    An epoch is `seconds` of training and 1 of validation; the first takes 0.01 less memory.
    """
    run_id = f"{dataset}-{model}-{encoder}-{loss}-s{seed}-{fold}-{lr:g}-{alpha}"
    folder = results / "runs" / run_id
    folder.mkdir(parents=True)
    split = {"test_split": "val" if dataset == "cityscapes" else "test"}
    science = {
        "dataset": {"size": 256, "split": {"counts": [7, 1, 2], "fold": fold} if fold else None},
        "encoder": {"name": encoder, "weights": None},
        "metrics": {"boundary_ratios": RATIOS},
        "optimizer": {"lr": lr},
        "loss": {"name": loss, "alpha": alpha},
        "seed": seed,
    }
    record = {
        "status": "finished", "run_id": run_id, "seed": seed, "science": science, "dataset": split,
        "choices": {"dataset": dataset, "model": model, "encoder": encoder, "loss": loss},
        "best_epoch": min(2, len(curve)), "train_seconds": seconds * len(curve),
        "peak_memory_bytes": 2**30,
        "device": {"kind": "cpu" if device == "cpu" else "cuda", "name": device, "count": 1},
        "peak_memory_kind": "resident" if device == "cpu" else "allocated on the GPU",
        "seconds": {"setup": 0.5, "fit": 2 + (seconds + 1) * len(curve), "evaluate": 2.0,
                    "record": 0.5},
    }  # fmt: skip
    (folder / "record.json").write_text(json.dumps(record))
    rows = [
        {"epoch": i, "split": "val", "biou": v, "biou_image": v + 0.1, "biou_0.005": v - 0.05,
         "biou_0.005_image": v}
        for i, v in enumerate(curve, 1)
    ]  # fmt: skip
    rows += [{"epoch": row["epoch"], "split": "train"} for row in rows]
    for row in rows:
        row["seconds"] = seconds if row["split"] == "train" else 1.0
        row["peak_memory_bytes"] = 2**30
        row["peak_memory_share"] = share - (0.01 if row["epoch"] == 1 else 0)
    epochs = pd.DataFrame(rows)
    prefixes = {"": iou, "boundary_0.02_": biou, "boundary_0.005_": narrow}
    images = []
    for checkpoint, part, (image, lower), k in itertools.product(
        ("best", "last"), ("val", "test"), (("a", 0.0), ("b", 0.1)), range(classes)
    ):
        row = {"checkpoint": checkpoint, "split": part, "image": image, "class": k}
        shift = (last - biou if checkpoint == "last" else 0.0) - lower - 0.2 * k
        for prefix, value in prefixes.items():
            names = (f"{prefix}{what}" for what in ("tp", "fp", "fn"))
            pixels = [(1 + k) * n for n in counts(max(value + shift, 0.0))]
            row |= dict(zip(names, pixels, strict=True))
        images.append(row)
    table = pd.DataFrame(images)
    if shuffled:
        table, epochs = (
            t.sample(frac=1, random_state=sum(map(ord, run_id))) for t in (table, epochs)
        )
    epochs.to_csv(folder / "epochs.csv", index=False)
    table.to_parquet(folder / "images.parquet", index=False)
