"""make tables: results/published and results/runs -> results/tables. Trains nothing; no GPU."""

import argparse
import contextlib
import functools
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd

from seglab import charts, config, files, scores, stats, store
from seglab.cd_diagram import critical_difference_figure
from seglab.errors import RunError
from seglab.tables import rankings, render
from seglab.tables.every import every_sheet
from seglab.tables.measured import Measured
from seglab.tables.pizza import PIZZAS
from seglab.tables.published import LOSSES, Published, read
from seglab.tables.readings import Convention, read_runs, with_ratio
from seglab.tables.runs import __doc__ as RUNS_CAPTION
from seglab.tables.runs import runs_table
from seglab.tables.table31 import ROWS

ROOT = Path(__file__).resolve().parents[1]
KEPT = ("audit.md", "README.md")  # in the folder of the tables, and of others


def main() -> None:
    """Writes every table as .md, .csv and .tex."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--results", type=Path, default=ROOT / "results", help="results_dir")
    parser.add_argument("--published", type=Path, default=ROOT / "results" / "published")
    parser.add_argument("--output", type=Path, help="default: <results>/tables")
    parser.add_argument("--aggregation", choices=scores.AGGREGATIONS, default="dataset")
    parser.add_argument(
        "--boundary-ratio", type=float, default=0.02, help="band / diagonal: 0.02 | 0.005"
    )
    parser.add_argument("--epoch", choices=("best", "last"), default="best")
    parser.add_argument(
        "--threshold", type=float, help="convergence of data sets without a published one"
    )
    parser.add_argument(
        "--figures", type=int, default=charts.MOST, help="groups of runs that are drawn, at most"
    )
    given = parser.parse_args()
    output = given.output or given.results / "tables"
    found, damaged = store.survey(given.results)
    runs = [run for run in found if not run.is_trial]
    if len(runs) < len(found):
        print(f"{len(found) - len(runs)} runs cut short (trainer=debug) are left out")
    convention = Convention(given.aggregation, given.boundary_ratio, given.epoch)
    runs, lacking = with_ratio(runs, given.boundary_ratio)
    if lacking:
        names = ", ".join(run.folder.name for run in lacking)
        print(
            f"{len(lacking)} runs have no counts for boundary ratio {given.boundary_ratio:g} and "
            f"are left out: {names}"
        )
    readings, unreadable = read_runs(runs, convention)
    damaged += unreadable
    for error in damaged:
        print(f"Warning: {error}", file=sys.stderr)
    measured = Measured(readings, convention, composed)
    published = read(given.published)
    before = {path: path.stat().st_ino for path in output.rglob("*") if path.is_file()}
    sheets = every_sheet(published, measured, table31_losses(), given.threshold)
    for sheet in sheets:
        files.write_text(output / f"{sheet.name}.md", render.markdown(sheet))
        files.write_text(output / f"{sheet.name}.tex", render.latex(sheet))
        files.write_text(output / f"{sheet.name}.csv", render.tidy_csv(sheet))
    print(f"{output}: {len(sheets)} tables as .md, .csv, .tex")
    write_rankings(published, measured, output)
    undrawn: list[RunError] = []
    if readings:
        write(runs_table(readings), output / "runs", RUNS_CAPTION or "")
        folder = output / "figures"
        said, undrawn = charts.write(measured, published, folder, given.threshold, given.figures)
        print(said)
    elif not damaged:
        print(
            f"{given.results / 'runs'} holds no finished run yet, so nothing is measured or drawn. "
            "`python train.py loss=dist model=unet` does one."
        )
    name_leftovers(output, before)
    for error in undrawn:
        print(f"Warning: {error}", file=sys.stderr)
    if damaged or undrawn:
        said = [
            f"{len(errors)} folder(s) in {given.results / 'runs'} {how}"
            for errors, how in (
                (damaged, "cannot be read and are in no table"),
                (undrawn, "cannot be drawn and are in no figure"),
            )
            if errors
        ]
        raise RunError(f"{'; '.join(said)}: the warnings above name them. All else is written.")


def name_leftovers(output: Path, before: dict[Path, int]) -> None:
    """Says which files of `output` this call has not written: a file that it writes is a new one.

    Args:
        before: the files that were there, with their inodes.
    """
    kept = set(KEPT)
    with contextlib.suppress(OSError):  # no git here
        command = ["git", "-C", str(output), "ls-files"]
        listed = subprocess.run(command, capture_output=True, text=True, check=False)
        kept |= set(listed.stdout.splitlines())
    left = [
        path.relative_to(output).as_posix()
        for path, inode in sorted(before.items())
        if path.stat().st_ino == inode
    ]
    left = [name for name in left if name not in kept]
    if left:
        shown = ", ".join(left[:3]) + ", ..." * (len(left) > 3)
        print(
            f"{len(left)} files in {output} are of an earlier command: {shown}; "
            "delete them to be rid of them"
        )


@functools.cache
def composed(overrides: tuple[str, ...]) -> tuple[dict[str, Any], dict[str, str]]:
    """The configuration that `python train.py <overrides>` has, and its choices."""
    settings = config.read(*config.compose(list(overrides)))
    return settings.tree, settings.choices


def write_rankings(published: Published, measured: Measured, output: Path) -> None:
    """rankings.md, and a critical-difference diagram for each data set and seed."""
    files.write_text(output / "rankings.md", rankings.report(published, measured))
    found = [*rankings.printed_ranked(published), *rankings.ranked(measured)]
    for group in found:
        compared = stats.nemenyi(group.values["biou"])
        title = (
            f"{group.title}\nAverage rank by bIoU over {compared.networks} networks; "
            f"Friedman p {rankings.chance(compared.friedman_p)}\n"
            "Bars join what Nemenyi cannot tell apart"
        )
        names = [LOSSES.get(loss, loss) for loss in group.losses]
        figure = critical_difference_figure(
            names, compared.average_ranks, compared.groups, compared.cd, title
        )
        stem = f"{group.stem}-critical_difference".replace("/", "_")
        charts.save(figure, str(output / "figures" / stem))
    print(f"{output / 'rankings.md'}: {len(found)} rankings of losses over networks")


def table31_losses(distance: str = "chessboard") -> dict[tuple[str, str], float]:
    """(loss, prediction) -> the loss of Table 3.1, by the losses that train."""
    import hydra
    import torch
    from omegaconf import OmegaConf

    pizza = PIZZAS[distance]
    target = torch.from_numpy(pizza.truth()).long().unsqueeze(0)
    found = {}
    for row in ROWS:
        settings = OmegaConf.load(ROOT / "configs" / "loss" / f"{row}.yaml")
        if row == "dist":
            settings.distance = distance
        loss = hydra.utils.instantiate(settings)
        for i, prediction in enumerate(pizza.predictions(), 1):
            mask = torch.from_numpy(prediction).float()[None, None]
            logits = mask if row == "ce" else 200 * mask - 100  # see pizza.py; else p is 0 or 1
            found[row, str(i)] = float(loss(logits, target))
    return found


def write(table: pd.DataFrame, path: Path, caption: str) -> None:
    """path.md and path.csv."""
    files.write_text(path.with_suffix(".csv"), table.to_csv(index=False, float_format="%.6f"))
    files.write_text(path.with_suffix(".md"), f"{caption.strip()}\n\n{markdown(table)}\n")
    print(f"{path}.md, .csv: {len(table)} rows")


def markdown(table: pd.DataFrame) -> str:
    """A Markdown table; scores with four decimals, NaN as 'n/a'."""
    lines = ["| " + " | ".join(table.columns) + " |", "|" + "---|" * table.shape[1]]
    lines += ["| " + " | ".join(map(_cell, row)) + " |" for row in table.itertuples(index=False)]
    return "\n".join(lines)


def _cell(value: object) -> str:
    if isinstance(value, float):
        return "n/a" if value != value else f"{value:.4f}"
    return str(value)


if __name__ == "__main__":
    sys.exit(config.guarded(main, sys.argv[1:]))
