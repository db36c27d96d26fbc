"""python scripts/status.py [experiment=...]: what of a grid is done, and what is left of it.

With the overrides of a `python train.py -m ...`: its grid as a matrix - done, running, stopped,
failed, stale, missing - and a forecast of time and memory for what is left, from the finished
runs. `--probe` measures a few steps of each cell of which no run tells, keeps the answers, and
finds what will not fit. Without overrides: everything in results/runs and results/drafts.
"""

import argparse
import json
import sys
from pathlib import Path

from seglab import config
from seglab.errors import ConfigError
from seglab.status import cells, forecast, probe, shelf, show, standing
from seglab.status.cells import Cell, Place
from seglab.status.forecast import Figure
from seglab.status.shelf import Shelf
from seglab.status.standing import Standing

ROOT = Path(__file__).resolve().parents[1]


def main() -> None:
    """Prints where the grid stands. Errors: ConfigError as for training."""
    arguments = parsed()
    if any(not override.startswith("results_dir=") for override in arguments.overrides):
        grid(arguments)
    else:
        overview(arguments)


def parsed() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="as for train.py -m")
    parser.add_argument(
        "--probe", action="store_true", help="measure a few steps where no run tells"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument(
        "-m", "--multirun", action="store_true", help="understood: it is always a sweep"
    )
    return parser.parse_intermixed_args()


def overview(arguments: argparse.Namespace) -> None:
    """Everything that the results folder holds."""
    if arguments.probe:
        raise ConfigError("--probe: needs a grid, such as experiment=demo_grid, or loss=ce,dist.")
    cfg, _ = config.compose(arguments.overrides)
    results = Path(str(cfg["results_dir"])).expanduser().absolute()
    found = shelf.look(results)
    standings = standing.every(found)
    if arguments.json:
        print(json.dumps(show.as_json(standings, found.damaged), indent=2))
    elif standings or found.damaged:
        print("\n".join(text(standings, found)))
    else:
        print(
            f"{results}: no run yet, finished or not. `python scripts/status.py "
            "experiment=demo_grid` shows what a grid would do."
        )


def grid(arguments: argparse.Namespace) -> None:
    """Where the grid of a command line stands, and what is left of it."""
    lines = cells.command_lines(arguments.overrides)
    settings = cells.read(lines)
    asked = cells.grid(lines, settings)
    place, cache = cells.place(settings[0]), settings[0].cache_dir
    found = shelf.look(settings[0].results_dir)
    figures = forecast.of_runs(found.all(), place)
    if arguments.probe:
        for each in settings:
            config.build(each, "dataset")  # says what to do where a data set is not here
        standings = [standing.judge(cell, found) for cell in asked]
        probe_all([s for s in standings if needs_probe(s, figures)], place, cache)
        asked = cells.grid(lines, settings)  # a data set that nobody had checked has been by now
    standings = [standing.judge(cell, found) for cell in asked]
    figures += probed(asked, place, cache)
    left = forecast.forecast(standings, figures, place)
    if arguments.json:
        whole = show.as_json(standings, found.damaged)
        whole["forecast"] = show.forecast_json(standings, left, place)
        print(json.dumps(whole, indent=2))
    else:
        print("\n".join(text(standings, found) + show.forecast_lines(standings, left, place)))


def needs_probe(judged: Standing, figures: list[Figure]) -> bool:
    """Whether a cell is to be done, and neither its own epochs nor a run tells what it costs."""
    own = judged.state in ("done", "running") or judged.seconds_left is not None
    return not own and forecast.cost(judged.cell, figures) is None


def probe_all(unknown: list[Standing], place: Place, cache: Path) -> None:
    """Probes each cell that costs something else than those before it."""
    name = show.names(unknown)
    different = probe.different(judged.cell for judged in unknown)
    todo = [cell for cell in different if probe.kept(cell, place, cache) is None]
    for number, cell in enumerate(todo, start=1):
        say(f"probe {number} of {len(todo)}: {name[cell.key]}")
        trouble = probe.measure(cell, place, cache, ROOT / "train.py")
        if trouble is not None:
            say(f"  no answer: {trouble}")


def probed(asked: list[Cell], place: Place, cache: Path) -> list[Figure]:
    """What probes have told of these cells, now or earlier."""
    answers = [(cell, probe.kept(cell, place, cache)) for cell in probe.different(asked)]
    return [probe.figure(cell, answer) for cell, answer in answers if answer is not None]


def text(standings: list[Standing], found: Shelf) -> list[str]:
    """Matrices, what their words mean, totals, lists."""
    lines = [line for block in show.blocks(standings) for line in (*show.matrix(block), "")]
    lines += [show.total_line(standings), *show.legend(standings)]
    return lines + show.lists(standings, found.damaged)


def say(message: str) -> None:
    """Beside the answer, which may be JSON."""
    print(message, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(config.guarded(main, sys.argv[1:]))
