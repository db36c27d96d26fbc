"""Splits drawn by name: the same on every machine and with every version of every library."""

import hashlib
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence

from seglab.errors import ConfigError, DataError


def partition(
    names: Iterable[str],
    group: Callable[[str], str],
    shares: Mapping[str, float],
    seed: int,
    drawn: Sequence[str] = ("val", "test"),
) -> dict[str, list[str]]:
    """train, val, test -> names, sorted; all names of one group (a patient) in one split.

    The groups, in an order drawn from `seed`, fill test until its share of the names is reached,
    then val; the rest is for training.

    Args:
        group: name -> the group that it belongs to.
        shares: {"val": 0.1, "test": 0.2}.
        drawn: the splits beside train; ("val",) where the test images lie elsewhere.

    Errors: ConfigError where the shares leave nothing to train on, or a split stays empty.
    """
    members: dict[str, list[str]] = defaultdict(list)
    for name in names:
        members[group(name)].append(name)
    total = sum(map(len, members.values()))
    if set(shares) != set(drawn) or min(shares.values()) <= 0 or sum(shares.values()) >= 1:
        raise ConfigError(
            f"dataset.split={dict(shares)}: {' and '.join(drawn)} must be shares above 0, "
            "together below 1"
        )
    found: dict[str, list[str]] = {split: [] for split in ("train", *drawn)}
    for name in sorted(members, key=lambda name: _key(seed, name)):
        wanting = [s for s in drawn[::-1] if len(found[s]) < round(shares[s] * total)]
        found[wanting[0] if wanting else "train"] += members[name]
    empty = [split for split, kept in found.items() if not kept]
    if empty and total:
        raise ConfigError(
            f"dataset.split={dict(shares)}: {total} in {len(members)} groups leave nothing for "
            f"{', '.join(empty)}. Give larger shares: dataset.split.{empty[0]}=0.25"
        )
    return {split: sorted(kept) for split, kept in found.items()}


def grouping(pattern: str | None) -> Callable[[str], str]:
    """name -> its group: what `pattern`, a regular expression with one group, finds in the name.

    None: each name is a group by itself.

    Errors: ConfigError for what is no such expression; the function that is returned, DataError
    where it finds nothing.
    """
    if pattern is None:
        return lambda name: name
    try:
        expression = re.compile(pattern)
    except re.error as error:
        raise ConfigError(f"dataset.group={pattern}: no regular expression: {error}") from None
    if expression.groups != 1:
        raise ConfigError(f"dataset.group={pattern}: needs one group in brackets: '^(.*)_'")

    def group_of(name: str) -> str:
        found = expression.search(name)
        if found is None:
            raise DataError(f"dataset.group={pattern}: finds nothing in {name}")
        return found[1]

    return group_of


def torn_group(
    placed: Sequence[tuple[str, str]], group: Callable[[str], str]
) -> tuple[int, int] | None:
    """The first two of `placed`, (name, split) each, of one group in different splits; else None.

    Their places in it, the earlier one first.
    """
    first: dict[str, int] = {}
    for place, (name, split) in enumerate(placed):
        earlier = first.setdefault(group(name), place)
        if placed[earlier][1] != split:
            return earlier, place
    return None


def _key(seed: int, name: str) -> str:
    """Sorting by a hash is a shuffle that no library version changes."""
    return hashlib.sha256(f"{seed}:{name}".encode()).hexdigest()
