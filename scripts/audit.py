"""The published numbers against each other: prints each contradiction, writes audit.md."""

import argparse
import sys
from pathlib import Path

from tables import table31_losses

from seglab import config, files
from seglab.audit import audit, report
from seglab.tables.published import read

ROOT = Path(__file__).resolve().parents[1]


def main() -> None:
    """Prints the report and writes it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--published", type=Path, default=ROOT / "results" / "published")
    parser.add_argument("--output", type=Path, default=ROOT / "results" / "tables" / "audit.md")
    given = parser.parse_args()
    published = read(given.published)
    text = report(audit(published, table31_losses()), published["dist_thesis_crossval"])
    files.write_text(given.output, text)
    print(text, end="")


if __name__ == "__main__":
    sys.exit(config.guarded(main, sys.argv[1:]))
