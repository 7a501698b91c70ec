"""Charts of values and dates.

Legend: R drawn records, T members.
"""

from collections import Counter
import datetime

from matplotlib import dates
from matplotlib.figure import Figure
import numpy as np

from rsfm_jax.ingest.report.sampling import BandValues
from rsfm_jax.layouts import Layout

_BLUE, _ORANGE = "#0072b2", "#d55e00"
_BINS = 72  # of the whole time that acquisitions span
DAYS_PER_YEAR = 365.2425


def histogram(values: BandValues) -> Figure:
    """Values of one band, with their mean, one standard deviation about it, and the ends of the valid range where they are in view."""
    figure = Figure(figsize=(3.4, 2.1), layout="constrained")
    axes = figure.subplots()
    share = values.counts / max(values.statistics.count, 1)
    axes.stairs(share, values.edges, fill=True, color=_BLUE, alpha=0.75)
    mean, std = values.statistics.mean, values.statistics.std
    if values.statistics.count:
        axes.axvspan(mean - std, mean + std, color="0.5", alpha=0.18, linewidth=0)
        axes.axvline(mean, color="black", linewidth=1)
    span = values.edges[-1] - values.edges[0]
    axes.set_xlim(values.edges[0] - 0.03 * span, values.edges[-1] + 0.03 * span)
    for end in values.band.valid_range:
        if axes.get_xlim()[0] <= end <= axes.get_xlim()[1]:
            axes.axvline(end, color=_ORANGE, linestyle="--", linewidth=1.4)
    axes.set_yticks([])
    axes.tick_params(labelsize=8)
    axes.locator_params(axis="x", nbins=5)
    axes.set_xlabel(values.band.unit, fontsize=8)
    axes.spines[["left", "top", "right"]].set_visible(False)
    return figure


def timeline(days: dict[str, Counter[datetime.date]]) -> Figure:
    """Acquisitions of each sensor in time, a row for each, every row to its own scale.

    Args:
      days: Scenes by sensor and day.

    Returns:
      The chart.
    """
    sensors = sorted(days, key=lambda sensor: min(days[sensor]))
    every = [day for counts in days.values() for day in counts]
    first, last = min(every).toordinal(), max(every).toordinal() + 1
    width = max(1, -(-(last - first) // _BINS))
    edges = np.arange(first, last + width, width)
    figure = Figure(figsize=(7, 0.7 + 0.75 * len(sensors)), layout="constrained")
    rows = figure.subplots(len(sensors), 1, sharex=True, squeeze=False)[:, 0]
    start, pad = dates.date2num(min(every)), 0.02 * (edges[-1] - edges[0])
    for axes, sensor in zip(rows, sensors, strict=True):
        numbers = np.array([day.toordinal() for day in days[sensor]])
        counts, _ = np.histogram(numbers, edges, weights=list(days[sensor].values()))
        axes.stairs(counts, edges - first + start, fill=True, color=_BLUE)
        when = f"{min(days[sensor])} to {max(days[sensor])}"
        axes.set_title(f"{sensor}, scenes: {days[sensor].total()}, {when}", fontsize=8, loc="left")
        axes.set_ylim(0, counts.max() * 1.1)
        axes.set_yticks([0, int(counts.max())])
        axes.tick_params(labelsize=8)
        axes.spines[["top", "right"]].set_visible(False)
        axes.set_xlim(start - pad, start + (edges[-1] - edges[0]) + pad)
    rows[-1].xaxis.set_major_locator(dates.AutoDateLocator(maxticks=8))
    rows[-1].xaxis.set_major_formatter(dates.ConciseDateFormatter(rows[-1].xaxis.get_major_locator()))
    rows[-1].set_xlabel(f"scenes in bins of {width} {'day' if width == 1 else 'days'}", fontsize=8)
    return figure


def member_gaps(layout: Layout, times: np.ndarray) -> dict[tuple[int, int], np.ndarray]:
    """Days from one acquisition to another, for every pair of acquisitions of a layout.

    Args:
      layout: The layout.
      times: Known, year and day of the year of the members, float64 (R, T, 3).

    Returns:
      By the numbers of the two acquisitions' first slots the days of the records in which both dates are known, float64 (<= R,).
    """
    firsts = [numbers[0] for numbers in layout.acquisitions()]
    known, years, day = np.moveaxis(times, -1, 0)
    starts = {year: datetime.date(int(year), 1, 1).toordinal() for year in np.unique(years[known > 0])}
    days = day + np.vectorize(lambda year: starts.get(year, 0), otypes=[np.float64])(years)
    pairs = [(i, j) for n, i in enumerate(firsts) for j in firsts[n + 1 :]]
    return {(i, j): (days[:, j] - days[:, i])[(known[:, i] > 0) & (known[:, j] > 0)] for i, j in pairs}


def gaps_chart(layout: Layout, gaps: dict[tuple[int, int], np.ndarray], seed: int) -> Figure:
    """Every known gap as a dot, a row for each pair of acquisitions.

    Args:
      layout: The layout.
      gaps: See `member_gaps`; at least one is known.
      seed: Of the scatter across a row, which has no meaning.

    Returns:
      The chart.
    """
    shown = {pair: days for pair, days in gaps.items() if len(days)}
    figure = Figure(figsize=(7, 0.75 + 0.33 * len(shown)), layout="constrained")
    axes = figure.subplots()
    rng = np.random.default_rng(seed)
    for row, days in enumerate(shown.values()):
        axes.scatter(days, row + rng.uniform(-0.25, 0.25, len(days)), s=8, color=_BLUE, alpha=0.45, linewidths=0)
    axes.set_yticks(range(len(shown)), [pair_name(layout, *pair) for pair in shown], fontsize=8)
    axes.set_ylim(len(shown) - 0.5, -0.5)
    axes.axvline(0, color="0.6", linewidth=0.8)
    longest = max(np.abs(days).max() for days in shown.values())
    axes.set_xlim(min(0, min(days.min() for days in shown.values())) - 0.04 * longest - 1, None)
    axes.tick_params(labelsize=8)
    axes.grid(axis="x", color="0.9", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.set_xlabel("days from the one to the other", fontsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    if longest > 2 * DAYS_PER_YEAR:
        years = axes.secondary_xaxis("top", functions=(lambda d: np.divide(d, DAYS_PER_YEAR), lambda y: np.multiply(y, DAYS_PER_YEAR)))
        years.set_xlabel("years", fontsize=8)
        years.tick_params(labelsize=8)
    return figure


def pair_name(layout: Layout, i: int, j: int) -> str:
    """Two members of a layout by number and sensor."""
    return f"{i + 1} {layout.slots[i].sensor} to {j + 1} {layout.slots[j].sensor}"
