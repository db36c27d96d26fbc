"""make tables: results/runs -> results/tables. Reads records; trains nothing, needs no GPU."""

import argparse
import sys
from pathlib import Path

import pandas as pd

from seglab import config, files, store
from seglab.tables.runs import __doc__ as RUNS_CAPTION
from seglab.tables.runs import runs_table

ROOT = Path(__file__).resolve().parents[1]


def main() -> None:
    """Writes every table as .md and .csv."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--results", type=Path, default=ROOT / "results", help="results_dir")
    results = parser.parse_args().results
    runs = store.finished_runs(results)
    if not runs:
        print(
            f"{results / 'runs'} holds no finished run yet: no table to make. "
            "`python train.py loss=dist model=unet` does one."
        )
        return
    write(runs_table(runs), results / "tables" / "runs", RUNS_CAPTION or "")


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
