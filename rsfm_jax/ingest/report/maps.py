"""Maps of where the sets of a dataset are: all of them, and each place for itself where they are far apart."""

from collections import Counter
import dataclasses
import math

from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure
import numpy as np

from rsfm_jax.geo import EARTH_RADIUS_M
from rsfm_jax.ingest.report.census import REJECTED, Census

COLOURS = {REJECTED: "#d55e00", "train": "#0072b2", "val": "#009e73"}  # the last is drawn on top; Okabe and Ito (2008)
MOST_PLACES = 6
_CELLS = 12  # along the longer side of the map: places are apart when a whole cell between them is empty
_SMALLEST = 1 / 120  # of the map's longer side: smaller footprints are drawn as points
_KM_PER_DEGREE = EARTH_RADIUS_M * math.pi / 180e3


@dataclasses.dataclass(frozen=True)
class Footprints:
    """Footprints to draw, by split or `REJECTED`: float64 (n, 4, 2) each, longitude and latitude in degrees."""

    by_group: dict[str, np.ndarray]

    @property
    def count(self) -> int:
        """Of all groups together."""
        return sum(map(len, self.by_group.values()))

    @property
    def corners_deg(self) -> np.ndarray:
        """All corners, (n, 2)."""
        return np.concatenate([footprints.reshape(-1, 2) for footprints in self.by_group.values()])


def drawn_footprints(census: Census) -> Footprints:
    """The census's sample of footprints, groups without any left out."""
    sampled = {group: census.footprints[group].items for group in COLOURS}
    return Footprints({group: np.stack(items) for group, items in sampled.items() if items})


def places(footprints: Footprints) -> list[Footprints]:
    """Groups of footprints that lie far from each other, the one with the most first.

    Cells of a twelfth of the map's longer side that hold a centre and touch belong to one place.
    """
    (west, south), (east, north) = footprints.corners_deg.min(axis=0), footprints.corners_deg.max(axis=0)
    squeeze = math.cos(math.radians((south + north) / 2))
    cell_deg = max((east - west) * squeeze, north - south) / _CELLS
    cells = {}
    for group, corners in footprints.by_group.items():
        lon, lat = corners.mean(axis=1).T
        cells[group] = np.stack([(lat - south) / cell_deg, (lon - west) * squeeze / cell_deg], axis=-1).astype(int)
    labels = _connected({tuple(cell) for of in cells.values() for cell in of.tolist()})
    found: dict[int, dict[str, np.ndarray]] = {label: {} for label in labels.values()}
    for group, corners in footprints.by_group.items():
        own = np.array([labels[row, column] for row, column in cells[group].tolist()])
        for label in np.unique(own).tolist():
            found[label][group] = corners[own == label]
    return sorted((Footprints(by_group) for by_group in found.values()), key=lambda place: -place.count)


def _connected(cells: set[tuple[int, int]]) -> dict[tuple[int, int], int]:
    """A number for each cell, the same for cells that touch, also at a corner, or are joined by such cells."""
    labels: dict[tuple[int, int], int] = {}
    for label, start in enumerate(sorted(cells)):
        waiting = [start] if start not in labels else []
        while waiting:
            row, column = waiting.pop()
            labels[row, column] = label
            around = {(row + i, column + j) for i in (-1, 0, 1) for j in (-1, 0, 1)}
            waiting.extend(cell for cell in around & cells if cell not in labels)
    return labels


def draw_map(footprints: Footprints, seen: Counter[str], width_in: float) -> Figure:
    """A map in degrees whose sides are in proportion at its middle latitude.

    Args:
      footprints: What is drawn.
      seen: How many sets of each group there are, for the legend; groups not in it are named without a number.
      width_in: Width in inches.

    Returns:
      The map.
    """
    corners = footprints.corners_deg
    (west, south), (east, north) = corners.min(axis=0), corners.max(axis=0)
    squeeze = max(math.cos(math.radians((south + north) / 2)), 0.05)
    longer = max((east - west) * squeeze, north - south, 1e-6)
    height_in = width_in * np.clip((north - south) / max((east - west) * squeeze, 1e-9), 0.45, 1.15)
    figure = Figure(figsize=(width_in, height_in), layout="constrained")
    axes = figure.subplots()
    for group in COLOURS:
        if group in footprints.by_group:
            label = f"{group} ({seen[group]})" if group in seen else group
            _draw(axes, footprints.by_group[group], COLOURS[group], longer * _SMALLEST, squeeze, label)
    pad = 0.04 * longer
    axes.set_xlim(west - pad / squeeze, east + pad / squeeze)
    axes.set_ylim(south - pad, north + pad)
    axes.set_aspect(1 / squeeze)
    axes.ticklabel_format(useOffset=False)
    axes.tick_params(labelsize=8)
    axes.locator_params(nbins=5)
    axes.grid(color="0.9", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.set_xlabel("longitude, degrees east", fontsize=8)
    axes.set_ylabel("latitude, degrees north", fontsize=8)
    if seen:
        figure.legend(loc="outside upper center", ncols=3, fontsize=8, frameon=False)
    _scale_bar(axes, longer * _KM_PER_DEGREE, squeeze)
    return figure


def _draw(axes: Axes, corners: np.ndarray, colour: str, smallest_deg: float, squeeze: float, label: str) -> None:
    size = np.ptp(corners, axis=1) * [squeeze, 1.0]
    if np.median(size.max(axis=1)) < smallest_deg:
        axes.scatter(*corners.mean(axis=1).T, s=9, color=colour, alpha=0.6, linewidths=0, label=label)
    else:
        axes.add_collection(PolyCollection(list(corners), facecolor=(colour, 0.12), edgecolor=(colour, 0.8), linewidth=0.8, label=label))


def _scale_bar(axes: Axes, longer_km: float, squeeze: float) -> None:
    """A bar of a round length, at most a quarter of the map's longer side."""
    power = 10.0 ** math.floor(math.log10(longer_km / 4))
    length_km = max(round_ * power for round_ in (1, 2, 5) if round_ * power <= longer_km / 4)
    share = length_km / _KM_PER_DEGREE / squeeze / (axes.get_xlim()[1] - axes.get_xlim()[0])
    axes.plot([0.04, 0.04 + share], [0.04, 0.04], transform=axes.transAxes, color="black", linewidth=2.5, solid_capstyle="butt")
    name = f"{length_km:g} km" if length_km >= 1 else f"{length_km * 1000:g} m"
    box = {"facecolor": "white", "alpha": 0.8, "linewidth": 0, "pad": 1}
    axes.text(0.04, 0.055, name, transform=axes.transAxes, fontsize=8, va="bottom", bbox=box)
