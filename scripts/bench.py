"""make bench: what seglab's losses, distances, metrics, data and training cost beside others'.

Every row is ours against a named other, both measured in turns; where a target is set, whether it
is met. Results go to results/bench/<machine>.json, and results/bench/README.md is made from all
such files. What is not installed is named, never left out; `pip install medpy monai` has the rest.

python scripts/bench.py                    everything on the CPU, with one thread: some 10 minutes
python scripts/bench.py --quick            fewer rounds and smaller trainings: under 2 minutes
python scripts/bench.py --device cuda      the same on a GPU, with the targets for one
python scripts/bench.py --only loss,step   some sections
"""

import argparse
import os
import sys
import time
import traceback
from pathlib import Path

from bench_measure import KEEPS_MEMORY, THREADS, peak_bytes, rows_of, timed

ROOT = Path(__file__).resolve().parents[1]
SECTIONS = ("loss", "distance", "boundary", "surface", "data", "step", "train", "store")


def main() -> int:
    """Returns 1 where a section failed or a target was missed with --strict, else 0."""
    arguments = read_arguments()
    if arguments.readme:
        from bench_report import write_readme

        print(write_readme(arguments.results, SECTIONS))
        return 0
    restart_with_environment(arguments.threads)
    from bench_report import as_text, grid_words, keep, machine, tally, write_readme

    prepare_process(arguments.threads, arguments.device)
    where = machine(arguments.device, arguments.threads)
    print(f"{where['name']}, {where['cores']} cores, {where['threads']} thread(s)")
    measured = {}
    for name in arguments.only:
        print(f"\n{name}", flush=True)
        section = measured[name] = measure(name, arguments)
        if section["rows"]:
            print(as_text(section["rows"]))
        for line in [*section["notes"], *filter(None, [section["failed"]])]:
            print(line)
        if section.get("grid"):
            print(grid_words(section["grid"]))
        print(f"{section['seconds']:.0f} s")
    print(f"\n{tally(measured.values())}")
    print(keep(arguments.results, where, measured))
    print(write_readme(arguments.results, SECTIONS))
    missed = [
        t for s in measured.values() for r in s["rows"] for t in r["targets"] if t["met"] is False
    ]
    return int(any(s["failed"] for s in measured.values()) or bool(arguments.strict and missed))


def read_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--threads", type=int, default=1, help="of one process (1)")
    parser.add_argument("--quick", action="store_true", help="under 2 minutes")
    parser.add_argument("--only", type=_sections, default=list(SECTIONS), metavar="A,B",
                        help=f"of {', '.join(SECTIONS)}")  # fmt: skip
    parser.add_argument(
        "--rounds", type=int, help="instead of 9, or 3 with --quick (train: always 3, or 1)"
    )
    parser.add_argument("--runs", type=int, help="made runs of section store, instead of 1008")
    parser.add_argument("--strict", action="store_true", help="a missed target is an error")
    parser.add_argument("--results", type=Path, default=ROOT / "results" / "bench")
    parser.add_argument("--readme", action="store_true", help="only make README.md anew")
    parser.add_argument("--tiny", action="store_true", help=argparse.SUPPRESS)  # for the tests
    arguments = parser.parse_args()
    for name in ("threads", "rounds", "runs"):
        if getattr(arguments, name) is not None and getattr(arguments, name) < 1:
            parser.error(f"--{name} must be at least 1")
    arguments.scale = "tiny" if arguments.tiny else "quick" if arguments.quick else "full"
    return arguments


def _sections(text: str) -> list[str]:
    names = text.split(",")
    unknown = [name for name in names if name not in SECTIONS]
    if unknown:
        raise argparse.ArgumentTypeError(
            f"no section {', '.join(unknown)}; there are {', '.join(SECTIONS)}"
        )
    return [name for name in SECTIONS if name in names]


def restart_with_environment(threads: int) -> None:
    """Once: what the C library and the thread pools read before Python runs.

    Without the allocator's settings page faults dominate every elementwise operation on a CPU,
    and medians drift by a factor of two from one run to the next.
    """
    wanted = KEEPS_MEMORY | dict.fromkeys(THREADS, str(threads))
    if any(os.environ.get(key) != value for key, value in wanted.items()):
        os.execve(sys.executable, [sys.executable, *sys.argv], os.environ | wanted)


def prepare_process(threads: int, device: str) -> None:
    """Threads, and quiet: warnings of the libraries would drown the table."""
    import logging
    import warnings

    import cv2
    import torch

    from seglab import experiment

    if device == "cuda" and not torch.cuda.is_available():
        sys.exit("--device cuda: this machine shows no CUDA GPU (torch.cuda.is_available()).")
    torch.set_num_threads(threads)
    cv2.setNumThreads(threads)
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    experiment.quieten()


def measure(name: str, arguments: argparse.Namespace) -> dict:
    """A section's rows; a section that breaks says so, and the others go on."""
    from dataclasses import replace

    from bench_report import provenance
    from bench_runs import GROUPS, thesis_hours
    from bench_sections import SCALES, groups

    sizes = SCALES[arguments.scale]
    if arguments.rounds:
        sizes = replace(sizes, rounds=arguments.rounds, step_rounds=arguments.rounds)
    if arguments.runs:
        sizes = replace(sizes, runs=arguments.runs)
    rounds = {"step": sizes.step_rounds, "train": sizes.train_rounds}.get(name, sizes.rounds)
    device = arguments.device
    section = {**provenance(), "scale": arguments.scale, "rounds": rounds, "rows": [], "notes": []}
    section["failed"] = None
    start = time.perf_counter()
    try:
        makers = GROUPS[name] if name in GROUPS else groups(name, sizes, device)
        for index, make in enumerate(makers):
            group = make(sizes, device)
            peaks = peak_bytes(group, name, index, arguments.scale, device, arguments.threads)
            seconds = timed(group.contenders, rounds, device)
            section["rows"] += rows_of(group, seconds, peaks, name)
            section["notes"] += group.notes
            unseen = [n for n, c in group.contenders.items() if callable(c) and n not in peaks]
            note = "Peak memory of the others is measured without --quick."
            if peaks and unseen and note not in section["notes"]:
                section["notes"].append(note)
        if name == "train" and device == "cuda" and sizes.judged:
            section["grid"] = thesis_hours(min(1.0, section["rows"][0]["speed_ratio"]))
    except Exception as error:
        traceback.print_exc()
        section["failed"] = f"{type(error).__name__}: {error}".splitlines()[0]
    section["seconds"] = round(time.perf_counter() - start, 1)
    return section


if __name__ == "__main__":
    sys.exit(main())
