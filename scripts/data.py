"""Look at a data set before training on it.

python scripts/data.py check   dataset=cityscapes dataset.root=...   every file once, every fault
python scripts/data.py prepare dataset=cityscapes dataset.root=...   the arrays that training maps

`prepare` also writes the planes of weights that the chosen loss wants (loss=dist is the default).
"""

import sys

from seglab import config, record
from seglab.data import cache, check, planes
from seglab.data.preprocess import Preprocess
from seglab.errors import ConfigError, DataError
from seglab.files import size_for_humans

VERBS = ("check", "prepare")


def main() -> None:
    """Reads the verb and the overrides."""
    if len(sys.argv) < 2 or sys.argv[1] in ("-h", "--help"):
        print(__doc__)
        return
    verb, *overrides = sys.argv[1:]
    if verb not in VERBS:
        raise ConfigError(f"{verb}: must be one of {', '.join(VERBS)}.\n\n{__doc__}")
    settings = config.read(*config.compose(overrides))
    source = config.build(settings, "dataset")
    if verb == "check":
        found = check.check(source, settings.cache_dir)
        show(source, found)
        if found.faults:
            raise DataError(f"dataset {source.name}: {len(found.faults)} faults, listed above")
        return
    found = check.require_clean(source, settings.cache_dir)
    preprocess = Preprocess(settings.dataset.size, settings.dataset.pad)
    cache.prepare(source, preprocess, settings.cache_dir, found)
    make = getattr(config.build(settings, "loss"), "plane", None)  # the loss's weight of pixels
    for split in source.splits:
        opened = cache.open_split(source, preprocess, settings.cache_dir, found, split)
        if make is not None:
            planes.prepare(opened, make, record.plane_key(settings.tree["loss"]))
        image, mask = opened[0]
        size = size_for_humans(len(opened) * (image.nbytes + mask.nbytes))
        print(f"{opened.message()} ({len(opened)} images, {size})")


def show(source: check.Source, found: check.Verdict) -> None:
    """Counts, class histogram, and every fault."""
    names = source.classes if source.num_classes > 1 else ("background", source.classes[0])
    for split, pixels in found.histogram.items():
        total = sum(pixels) + found.ignored[split]
        print(f"{split}: {found.counts[split]} images, {total} pixels")
        for name, number in (*zip(names, pixels, strict=True), ("ignored", found.ignored[split])):
            share = number / total if total else 0.0
            print(f"  {name:<16}{share:9.4%}  {number}")
    print(f"fingerprint {found.fingerprint}")
    for fault in found.faults:
        print(fault)
    print(f"{len(found.faults)} fault{'s' * (len(found.faults) != 1)}")


if __name__ == "__main__":
    sys.exit(config.guarded(main, sys.argv[1:]))
