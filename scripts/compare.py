"""python scripts/compare.py RUN_A RUN_B: is the difference of two runs larger than the noise?

Every metric's difference (A minus B) on the images of one split, with its 95 % interval, and the
ten images that differ most. Reads records; trains nothing, needs no GPU.
"""

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from seglab import config, record, scores, stats, store
from seglab.errors import ConfigError, RunError

ROOT = Path(__file__).resolve().parents[1]
SEED = 0  # of the resamples: the same command prints the same numbers
SHOWN = 10
NAN = float("nan")


@dataclass(frozen=True)
class Evaluated:
    """What one run counted on one split.

    Attributes:
        images: the N names, sorted.
        counts: (N, K, 1 + R, 3), region first, then the bands of `ratios`.
    """

    run: store.StoredRun
    images: list[str]
    counts: np.ndarray

    @property
    def classes(self) -> int:
        """K."""
        return self.counts.shape[1]

    @property
    def name(self) -> str:
        """The run's id."""
        return str(self.run.record["run_id"])


def main() -> None:
    """Prints the comparison. Errors: UserError where the runs cannot be compared."""
    arguments = parsed()
    a, b = (
        evaluated(find(name, arguments.results), arguments.checkpoint, arguments.split)
        for name in (arguments.run_a, arguments.run_b)
    )
    check_comparable(a, b, arguments.split)
    print(report(a, b, arguments))


def parsed() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run_a", metavar="RUN_A", help="a run's folder, or its run_id")
    parser.add_argument("run_b", metavar="RUN_B")
    parser.add_argument("--split", default="test", help="default: test")
    parser.add_argument("--checkpoint", default="best", choices=("best", "last"))
    parser.add_argument("--aggregation", default="dataset", choices=scores.AGGREGATIONS)
    parser.add_argument("--resamples", type=int, default=10_000, help="default: 10000")
    parser.add_argument("--results", type=Path, default=ROOT / "results", help="results_dir")
    arguments = parser.parse_args()
    if arguments.resamples < 100:
        raise ConfigError(
            f"--resamples {arguments.resamples}: too few for a 95 % interval. Take at least 100; "
            "10000 is the default."
        )
    return arguments


# ---------------------------------------------------------------- the two runs


def find(name: str, results: Path) -> store.StoredRun:
    """The finished run in folder `name`, or of that run_id. Errors: RunError."""
    places = [Path(name), results / "runs" / name]
    folder = next((place for place in places if (place / "record.json").exists()), None)
    if folder is None:
        known = sorted(path.name for path in (results / "runs").glob("*/"))
        listed = f" There are: {', '.join(known[:10])}{', ...' if len(known) > 10 else ''}."
        raise RunError(
            f"{name}: neither a run's folder nor a run_id in {results / 'runs'}."
            f"{listed if known else ''}"
        )
    status = record.read_record(folder).get("status")
    if status != "finished":
        raise RunError(
            f"{folder}: is {status or 'without a status'}, not finished. "
            "Let it finish first: the same command line goes on with it."
        )
    return store.stored(folder)


def evaluated(run: store.StoredRun, checkpoint: str, split: str) -> Evaluated:
    """The counts of one split, images in the order of their names. Errors: RunError."""
    found = run.evaluations(checkpoint)
    if (checkpoint, split) not in found:
        had = ", ".join(name for _, name in found) or "none"
        raise RunError(
            f"{run.folder}: has no split {split} for checkpoint {checkpoint}. "
            f"It has: {had}. Choose one: --split ..."
        )
    one = found[checkpoint, split]
    return Evaluated(run, one.images, one.counts.astype(np.int64))


def check_comparable(a: Evaluated, b: Evaluated, split: str) -> None:
    """Errors: RunError unless both counted the same truth of the same images."""
    first, second = (x.run.record["science"] for x in (a, b))
    if first["data"] != second["data"]:
        raise RunError(
            f"{a.name} and {b.name} are of different data: fingerprints {first['data'][:12]} and "
            f"{second['data'][:12]} (data sets {a.run.record['choices']['dataset']} and "
            f"{b.run.record['choices']['dataset']}). Only runs on the same data can be compared."
        )
    alone = [sorted(set(x.images) - set(y.images)) for x, y in ((a, b), (b, a))]
    if any(alone):
        example = (alone[0] or alone[1])[0]
        raise RunError(
            f"{a.name} and {b.name} have different images in split {split}: {len(alone[0])} only "
            f"in the first, {len(alone[1])} only in the second, such as {example}. Compare runs "
            "with the same split and the same trainer.max_images."
        )
    if a.classes != b.classes:
        raise RunError(
            f"{a.name} and {b.name} have different classes: {a.classes} and "
            f"{b.classes}. Compare runs of the same task."
        )
    if not np.array_equal(truth(a)[..., 0], truth(b)[..., 0]):
        raise RunError(
            f"{a.name} and {b.name} were measured against different truth masks of the same "
            "images (tp + fn differ): dataset.size, dataset.pad or another key of the data set is "
            "not the same. Compare runs that prepare the images alike."
        )
    for ratio in common_ratios(a, b):
        bands = [truth(x)[..., 1 + x.run.ratios.index(ratio)] for x in (a, b)]
        if not np.array_equal(*bands):
            raise RunError(
                f"{a.name} and {b.name} counted boundary bands of different widths for ratio "
                f"{ratio:g}. Do one of them again with the present code."
            )


def truth(x: Evaluated) -> np.ndarray:
    """(N, K, 1 + R) pixels of the truth: tp + fn."""
    return x.counts[..., 0] + x.counts[..., 2]


def common_ratios(a: Evaluated, b: Evaluated) -> list[float]:
    """The band ratios that both runs counted, in the order of the first."""
    return [ratio for ratio in a.run.ratios if ratio in b.run.ratios]


# ---------------------------------------------------------------- what is printed


def report(a: Evaluated, b: Evaluated, arguments: argparse.Namespace) -> str:
    """The whole comparison as text."""
    images, split = len(a.images), arguments.split
    lines = [
        f"A  {describe(a)}",
        f"B  {describe(b)}",
        f"{images} images of split {split}, {a.classes} classes, checkpoint "
        f"{arguments.checkpoint}, aggregation {arguments.aggregation}",
        *warnings(a, b),
        "",
    ]
    rows, verdicts, reasons = [], [], []
    for name, score, region_a, region_b in metrics(a, b):
        d = stats.difference(
            region_a, region_b, score, arguments.aggregation, arguments.resamples, SEED
        )
        test = stats.signed_rank(region_a, region_b, score)
        together = windows(a)
        if together:
            d = replace(d, low=NAN, high=NAN, p=NAN, reason=together)
            test = replace(test, p=NAN, effect=NAN, reason="")
        values = [
            scores.aggregate(score, x, arguments.aggregation)[0] for x in (region_a, region_b)
        ]
        rows.append(
            {
                "metric": name,
                "A": number(values[0]),
                "B": number(values[1]),
                "A - B": signed(d.estimate),
                "95 % interval": interval(d),
                "p": chance(d.p),
                "Wilcoxon p": chance(test.p),
                "effect": signed(test.effect, 2),
                "images": str(test.images),
            }
        )
        identical = np.array_equal(region_a, region_b)
        verdicts.append(f"{name}: {verdict(d, images, split, same=identical)}")
        reasons += [f"{name}: {reason}." for reason in (d.reason, test.reason) if reason]
        if d.undefined:
            reasons.append(f"{name}: undefined in {d.undefined} resamples, which are left out.")
    lines += [aligned(rows), "", *verdicts, *reasons, "", *footnotes(arguments.resamples), ""]
    lines += ["The images that differ most (IoU, mean over the classes defined in the image):"]
    return "\n".join([*lines, aligned(most_different(a, b))])


def describe(x: Evaluated) -> str:
    """The run's id, loss, seed and epoch."""
    kept = x.run.record
    return f"{x.name} (loss {kept['choices']['loss']}, seed {kept['seed']})"


def warnings(a: Evaluated, b: Evaluated) -> list[str]:
    """What else differs between the two runs, and whether that is more than one thing."""
    first, second = (x.run.record for x in (a, b))
    lines = []
    sections = sorted(set(first["science"]) | set(second["science"]))
    differ = [s for s in sections if first["science"].get(s) != second["science"].get(s)]
    if len(differ) > 1:
        lines.append(
            f"Note: they differ in more than one thing ({', '.join(differ)}), so no one of these "
            "is shown to be the cause."
        )
    both = set(first["code"]) & set(second["code"])
    if any(first["code"][name] != second["code"][name] for name in both):
        lines.append("Note: they were made by different versions of the code.")
    left_out = set(a.run.ratios) ^ set(b.run.ratios)
    if left_out:
        listed = ", ".join(f"{ratio:g}" for ratio in sorted(left_out))
        lines.append(f"Note: only one of them counted boundary bands of ratio {listed}: left out.")
    return lines


Metrics = list[tuple[str, Callable[[np.ndarray], np.ndarray], np.ndarray, np.ndarray]]


def metrics(a: Evaluated, b: Evaluated) -> Metrics:
    """(name, score, counts of a, counts of b): biou of the first common ratio, iou, dice, ..."""
    found: Metrics = [
        (name, score, a.counts[:, :, 0], b.counts[:, :, 0])
        for name, score in (("iou", scores.iou), ("dice", scores.dice))
    ]
    for ratio in common_ratios(a, b):
        bands = [x.counts[:, :, 1 + x.run.ratios.index(ratio)] for x in (a, b)]
        reported = ratio == a.run.ratios[0] == b.run.ratios[0]
        name = "biou" if reported else f"biou_{ratio:g}"
        found.insert(0 if reported else len(found), (name, scores.iou, *bands))
    return found


def windows(x: Evaluated) -> str:
    """Why the samples are not as many images, where the record says so; else ""."""
    samples = len(x.images)
    images = x.run.record["dataset"].get("test_images", samples)  # older runs: not known
    if images >= samples:
        return ""
    shown = "one image" if images == 1 else f"{images} images"
    return f"the {samples} samples are windows of {shown}, and not independent"


def verdict(d: stats.Difference, images: int, split: str, *, same: bool) -> str:
    """One line in plain words."""
    where = f"these {images} images" if images != 1 else "this one image"
    if same:
        return f"the runs count alike on {where}: there is no difference."
    if d.low != d.low:
        return f"nothing can be said about other images ({d.reason})."
    if not d.excludes_zero:
        return f"the interval contains 0: these runs are not distinguishable on {where}."
    better = "A" if d.estimate > 0 else "B"
    return (
        f"the interval leaves out 0: {better} is better, by more than the choice of {where} of "
        f"split {split} explains."
    )


def footnotes(resamples: int) -> list[str]:
    """What the numbers mean, and what they do not."""
    return [
        f"Interval and p: paired bootstrap over images, {resamples} resamples (expanded "
        "percentile, Hesterberg 2015). Wilcoxon:",
        "signed-rank test of the per-image values; effect: rank-biserial, -1 (B better on every "
        "image) to 1 (A).",
        "No correction for looking at several metrics. Overlapping or neighbouring images count as "
        "independent here; if they",
        "are not, the intervals are too narrow. One run each: this says nothing about other seeds.",
    ]


def most_different(a: Evaluated, b: Evaluated) -> list[dict[str, str]]:
    """The images with the largest differences of IoU, the largest first, where it is defined."""
    values = [stats.per_image(x.counts[:, :, 0], scores.iou) for x in (a, b)]
    table = pd.DataFrame({"image": a.images, "A": values[0], "B": values[1]}).dropna()
    table["gap"] = table["A"] - table["B"]
    order = table["gap"].abs().sort_values(ascending=False, kind="stable").index[:SHOWN]
    return [
        {
            "image": row.image,
            "iou A": number(row.A),
            "iou B": number(row.B),
            "A - B": signed(row.gap),
        }
        for row in table.loc[order].itertuples()
    ]


def aligned(rows: list[dict[str, str]]) -> str:
    """Columns of text, the first to the left, the others to the right."""
    if not rows:
        return "(none)"
    lines = [list(rows[0]), *(list(row.values()) for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if position == 0 else cell.rjust(width)
            for position, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        for line in lines
    )


def number(value: float) -> str:
    """0.8123, or n/a."""
    return "n/a" if value != value else f"{value:.4f}"


def signed(value: float, decimals: int = 4) -> str:
    """+0.0123, or n/a."""
    return "n/a" if value != value else f"{value:+.{decimals}f}"


def interval(d: stats.Difference) -> str:
    """[-0.0010, +0.0200], or n/a."""
    return "n/a" if d.low != d.low else f"[{signed(d.low)}, {signed(d.high)}]"


def chance(p: float) -> str:
    """A p-value with three decimals, or n/a."""
    return "n/a" if p != p else ("<0.001" if p < 0.001 else f"{p:.3f}")


if __name__ == "__main__":
    sys.exit(config.guarded(main, sys.argv[1:]))
