"""The critical-difference diagram of Demsar (JMLR 2006, figure 1): matplotlib alone."""

from collections.abc import Sequence

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

WIDTH_INCHES = 6.4
LINE_INCHES = 0.24  # one name, or one bar
INK = "#303030"


def critical_difference_figure(
    names: Sequence[str],
    average_ranks: Sequence[float],
    groups: Sequence[Sequence[int]],
    cd: float,
    title: str,
) -> Figure:
    """Losses on a line of average ranks, the best at the left; a bar joins those not told apart.

    Args:
        names, average_ranks: of the L losses.
        groups: indices of the losses that a bar joins, as `seglab.stats.nemenyi` finds them.
        cd: drawn as a ruler at the top; NaN draws none.
        title: says what was compared, over how many networks, by which test.
    """
    count = len(names)
    assert len(average_ranks) == count >= 2, "a name for each of two ranks or more"
    order = sorted(range(count), key=lambda i: average_ranks[i])
    left = (count + 1) // 2
    bars, rows = len(groups), left
    height = LINE_INCHES * (bars + rows + 5)
    figure = Figure(figsize=(WIDTH_INCHES, height), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.set_xlim(1 - 0.35 * (count - 1), count + 0.35 * (count - 1))
    axes.set_ylim(-(bars + rows + 1), 2.6)
    axes.axis("off")
    axes.set_title(title, fontsize=9)
    axes.plot([1, count], [0, 0], color=INK, linewidth=1)
    for rank in range(1, count + 1):
        axes.plot([rank, rank], [0, 0.25], color=INK, linewidth=1)
        axes.text(rank, 0.35, str(rank), ha="center", va="bottom", fontsize=8)
    if cd == cd:
        axes.plot([1, 1 + cd], [1.6, 1.6], color=INK, linewidth=2)
        axes.text(1 + cd / 2, 1.7, f"CD = {cd:.2f}", ha="center", va="bottom", fontsize=8)
    for position, group in enumerate(groups):
        ranks = [average_ranks[i] for i in group]
        line = [min(ranks) - 0.03 * (count - 1), max(ranks) + 0.03 * (count - 1)]
        axes.plot(line, [-(position + 0.7)] * 2, color=INK, linewidth=4, solid_capstyle="butt")
    for place, i in enumerate(order):
        at_left = place < left
        row = place if at_left else count - 1 - place
        y, x = -(bars + 1 + row), (1.0 if at_left else float(count))
        edge = x - 0.08 * (count - 1) if at_left else x + 0.08 * (count - 1)
        rank = average_ranks[i]
        axes.plot([rank, rank, edge], [0, y, y], color=INK, linewidth=0.8)
        text = f"{names[i]} ({rank:.2f})"
        axes.text(edge, y, f" {text} ", ha="right" if at_left else "left", va="center", fontsize=8)
    return figure
