"""Do the losses keep their order - over networks, under another metric, on other images?

Demsar. "Statistical comparisons of classifiers over multiple data sets." JMLR 2006 (over networks).
Wiesenfarth et al. "Methods and open-source toolkit for analyzing and visualizing challenge
results." Scientific Reports 2021 (over images).
"""

import itertools
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from seglab import stats
from seglab.tables.marks import METRICS, RESAMPLES, SEED, why_not
from seglab.tables.measured import Cellname, Measured
from seglab.tables.published import DATASETS, ENCODERS, LOSSES, MODELS, Published
from seglab.tables.published import METRICS as NAMES

PRINTED_SEED = 42
CAPTION = """\
Average rank: over the networks, 1 the best, ties share. Friedman's test asks whether any loss
differs; then Nemenyi's (average ranks further apart than CD differ) and Wilcoxon's with Holm's
correction ask which, at 5 %. They take each network as one observation, of whatever images and
seed. Kendall's tau compares the orders of the average ranks under two metrics: 1 the same, -1 the
opposite. Rank and its 95 % interval: bootstrap over the test images of the same trained weights;
it says nothing of training again."""


@dataclass(frozen=True)
class Ranked:
    """Losses that every one of several networks has, of one data set and seed.

    Attributes:
        title: what is compared. stem: for a file name.
        split: of the measured runs; "" of published values.
        networks: (model, encoder) of the measured runs.
        losses: those that have run with each network.
        names: (network, loss) -> the run; none of published values.
        values: metric -> (networks, L).
    """

    title: str
    stem: str
    split: str
    networks: list[tuple[str, str]]
    losses: list[str]
    names: dict[tuple[tuple[str, str], str], Cellname]
    values: dict[str, np.ndarray]


def ranked(measured: Measured) -> list[Ranked]:
    """Of each data set and seed with two networks or more that share two losses or more."""
    runs: dict[tuple[str, int], dict[tuple[str, str], dict[str, Cellname]]] = defaultdict(dict)
    for name in measured.scores:
        if name.fold is None:
            networks = runs[name.dataset, name.seed]
            networks.setdefault((name.model, name.encoder), {})[name.loss] = name
    found = []
    for (dataset, seed), by_network in sorted(runs.items()):
        networks = sorted(by_network, key=_place)
        shared = set.intersection(*(set(by_network[network]) for network in networks))
        losses = [*(x for x in LOSSES if x in shared), *sorted(shared - set(LOSSES))]
        split = measured.test_split[dataset]
        names = {(n, loss): by_network[n][loss] for n in networks for loss in losses}
        values = {
            metric: np.array(
                [
                    [_score(measured, names[n, loss], split, metric) for loss in losses]
                    for n in networks
                ]
            )
            for metric in METRICS
        }
        defined = not any(np.isnan(table).any() for table in values.values())
        if len(networks) > 1 and len(losses) > 1 and defined:
            title = f"{dataset}, seed {seed}, split {split}"
            stem = f"{dataset}-s{seed}"
            found.append(Ranked(title, stem, split, networks, losses, names, values))
    return found


def printed_ranked(published: Published) -> list[Ranked]:
    """Of Gul's thesis: each data set of Tables 4.1 to 4.6, and both together."""
    lines = published["dist_thesis"]
    lines = lines[lines["seed"].astype(int) == PRINTED_SEED]
    tables = {
        metric: lines[lines["metric"] == metric]
        .assign(value=lambda rows: rows["value"].astype(float))
        .pivot(index=["dataset", "architecture", "encoder"], columns="loss", values="value")[
            list(LOSSES)
        ]
        for metric in METRICS
    }
    found = []
    for dataset in (*DATASETS, None):
        rows = slice(None) if dataset is None else [dataset]
        values = {metric: table.loc[rows].to_numpy() for metric, table in tables.items()}
        shown = " and ".join(DATASETS.values()) if dataset is None else DATASETS[dataset]
        title = f"Printed in Gul's thesis, Tables 4.1-4.6: {shown}"
        stem = f"published-{dataset or 'both'}"
        found.append(Ranked(title, stem, "", [], list(LOSSES), {}, values))
    return found


def _score(measured: Measured, name: Cellname, split: str, metric: str) -> float:
    value = measured.score(name, split, metric)
    return np.nan if value is None else value


def report(published: Published, measured: Measured) -> str:
    """Everything as Markdown; what it takes where there is nothing to compare."""
    printed = [_section(group) for group in printed_ranked(published)]
    own = [f"{_section(group)}\n\n{_stability(group, measured)}" for group in ranked(measured)] or [
        "Nothing measured to rank: it takes two losses with two networks each, of one data set."
    ]
    parts = [CAPTION, *printed, f"Measured: {measured.convention.sentence()}", *own]
    return "\n\n".join(["# Rankings", *parts]) + "\n"


def _section(group: Ranked) -> str:
    title = f"## {group.title}: {len(group.values['biou'])} networks"
    compared = {metric: stats.nemenyi(values) for metric, values in group.values.items()}
    head = ["Loss", *(f"average rank, {NAMES[metric]}" for metric in compared)]
    rows = [
        [_loss(loss), *(f"{found.average_ranks[i]:.2f}" for found in compared.values())]
        for i, loss in enumerate(group.losses)
    ]
    lines = [title, _table(head, rows)]
    for metric, found in compared.items():
        pairs = stats.wilcoxon_holm(group.values[metric])
        lines.append(
            f"{NAMES[metric]}: Friedman p {chance(found.friedman_p)}; CD = {found.cd:.2f}. Not "
            f"told apart by Nemenyi: {_groups(found, group)}; by Wilcoxon and Holm: "
            f"{_groups(pairs, group)}.{_reasons(found.reason, pairs.reason)}"
        )
    for one, other in itertools.combinations(compared, 2):
        agreement = stats.kendall(-compared[one].average_ranks, -compared[other].average_ranks)
        said = agreement.reason or f"{agreement.tau:+.2f} (p {chance(agreement.p)})"
        lines.append(f"Kendall's tau of {NAMES[one]} and {NAMES[other]}: {said}.")
    return "\n\n".join(lines)


def _stability(group: Ranked, measured: Measured) -> str:
    """The rank of each loss with each network, and its interval over images."""
    head = ["Rank by bIoU over images", *map(_loss, group.losses)]
    rows, reasons = [], []
    score, entry = METRICS["biou"]
    for network in group.networks:
        found = {loss: [measured.readings[group.names[network, loss]]] for loss in group.losses}
        reason = why_not(found, group.split)
        if not reason:
            runs = [reading.counts[:, :, entry] for (reading,) in found.values()]
            aggregation = measured.convention.aggregation
            placed = stats.ranking(np.stack(runs), score, aggregation, RESAMPLES, SEED)
            reason = placed.reason
        if reason:
            reasons.append(reason)
            continue
        bounds = zip(placed.ranks, placed.low, placed.high, strict=True)
        rows.append([_network(network), *(f"{r:g} [{a:g}, {b:g}]" for r, a, b in bounds)])
    said = [f"No interval of a rank: {reason}." for reason in dict.fromkeys(reasons)]
    return "\n\n".join([*([_table(head, rows)] if rows else []), *said])


def chance(p: float) -> str:
    """'= 0.123', '< 0.001', or '= n/a'."""
    return "= n/a" if np.isnan(p) else "< 0.001" if p < 0.001 else f"= {p:.3f}"


def _groups(found: stats.CriticalDifference, group: Ranked) -> str:
    """'Dice, Ours; IoU, Combo', or 'none'."""
    named = (", ".join(_loss(group.losses[i]) for i in members) for members in found.groups)
    return "; ".join(named) or "none"


def _reasons(*reasons: str) -> str:
    said = [f" {reason[0].upper()}{reason[1:]}." for reason in dict.fromkeys(reasons) if reason]
    return "".join(said)


def _table(head: list[str], rows: Iterable[list[str]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])


def _loss(name: str) -> str:
    return LOSSES.get(name, name)


def _network(network: tuple[str, str]) -> str:
    return " & ".join(
        names.get(part, part) for names, part in zip((MODELS, ENCODERS), network, strict=True)
    )


def _place(network: tuple[str, str]) -> tuple[int, int, tuple[str, str]]:
    model, encoder = network
    known = list(MODELS), list(ENCODERS)
    places = [k.index(x) if x in k else len(k) for k, x in zip(known, network, strict=True)]
    return places[0], places[1], (model, encoder)
