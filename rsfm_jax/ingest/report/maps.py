"""Maps of where the sets of a dataset are: all of them, and each place for itself where they are far apart."""

from collections.abc import Mapping, Sequence
import dataclasses
import math

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import PathPatch
from matplotlib.path import Path
import numpy as np
import shapely

from rsfm_jax.geo import EARTH_RADIUS_M
from rsfm_jax.ingest.report.census import REJECTED, Census

COLOURS = {REJECTED: "#d55e00", "train": "#0072b2", "val": "#009e73"}  # the last is drawn on top; Okabe and Ito (2008)
MOST_PLACES, TOO_MANY_PLACES = 6, 24
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

    @property
    def squeeze(self) -> float:
        """Length of a degree of longitude in degrees of latitude, in the middle of the map."""
        return max(math.cos(math.radians(self.corners_deg[:, 1].min() / 2 + self.corners_deg[:, 1].max() / 2)), 0.05)

    @property
    def longer_deg(self) -> float:
        """The map's longer side, in degrees of latitude."""
        return max(*np.ptp(self.corners_deg, axis=0) * [self.squeeze, 1.0], 1e-6)

    @property
    def visible(self) -> bool:
        """Whether half of the footprints and more are large enough to be seen on one map."""
        sides = np.concatenate([np.ptp(footprints, axis=1) for footprints in self.by_group.values()]) * [self.squeeze, 1.0]
        return bool(np.median(sides.max(axis=1)) >= _SMALLEST * self.longer_deg)


def drawn_footprints(census: Census) -> Footprints:
    """The census's sample of footprints, groups without any left out."""
    sampled = {group: census.footprints[group].items for group in COLOURS}
    return Footprints({group: np.stack(items) for group, items in sampled.items() if items})


def places(footprints: Footprints) -> list[Footprints]:
    """Groups of footprints that lie far from each other, the one with the most first.

    Footprints that can be seen on one map are one place. Others are parted: cells of a twelfth of the map's longer side that hold a centre
    and touch stay together, and the same is done with each part.
    """
    if footprints.visible:
        return [footprints]
    west, south = footprints.corners_deg.min(axis=0)
    squeeze, longer_deg = footprints.squeeze, footprints.longer_deg
    cell_deg = longer_deg / _CELLS
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
    if len(found) == 1:
        return [footprints]
    parts = [part for by_group in found.values() for part in places(Footprints(by_group))]
    return sorted(parts, key=lambda place: -place.count)


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


def draw_map(footprints: Footprints, width_in: float, seen: Mapping[str, int] = {}, named: Sequence[Footprints] = ()) -> Figure:
    """A map in degrees whose sides are in proportion at its middle latitude.

    Args:
      footprints: What is drawn.
      width_in: Width in inches.
      seen: How many sets of each group there are, for a legend; none where empty.
      named: Places to number.

    Returns:
      The map.
    """
    corners = footprints.corners_deg
    (west, south), (east, north) = corners.min(axis=0), corners.max(axis=0)
    squeeze, longer = footprints.squeeze, footprints.longer_deg
    height_in = width_in * np.clip((north - south) / max((east - west) * squeeze, 1e-9), 0.45, 1.1)
    figure = Figure(figsize=(width_in, height_in), layout="constrained")
    axes = figure.subplots()
    for group, corners in footprints.by_group.items():
        area = np.clip(6000 / footprints.count, 2, 10 if footprints.visible else 18)
        _draw(axes, group, corners, area, footprints.visible, f"{group} ({seen.get(group)})")
    for number, place in enumerate(named, 1):
        at = place.corners_deg.mean(axis=0)
        axes.annotate(str(number), at, (6, 6), textcoords="offset points", fontsize=10, fontweight="bold")
    pad = 0.06 * longer
    axes.set_xlim(west - pad / squeeze, east + pad / squeeze)
    axes.set_ylim(south - 2 * pad, north + pad)  # room for the scale bar
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


def _draw(axes: Axes, group: str, corners: np.ndarray, area: float, visible: bool, label: str) -> None:
    """Centres as points; and the ground together, unless it is too small to be seen."""
    colour = COLOURS[group]
    marks = {"marker": "x", "linewidths": 0.8} if group == REJECTED else {"linewidths": 0}
    axes.scatter(*corners.mean(axis=1).T, s=area, color=colour, alpha=0.8, label=label, **marks)
    if not visible:
        return
    ground = shapely.union_all(shapely.polygons(corners))
    fill = 0.0 if group == REJECTED else 0.2
    for part in shapely.get_parts(ground):
        rings = [part.exterior, *part.interiors]
        path = Path.make_compound_path(*(Path(np.asarray(ring.coords), closed=True) for ring in rings))
        axes.add_patch(PathPatch(path, facecolor=(colour, fill), edgecolor=(colour, 0.9), linewidth=0.9))


def _scale_bar(axes: Axes, longer_km: float, squeeze: float) -> None:
    """A bar of a round length, at most a quarter of the map's longer side."""
    power = 10.0 ** math.floor(math.log10(longer_km / 4))
    length_km = max(round_ * power for round_ in (1, 2, 5) if round_ * power <= longer_km / 4)
    share = length_km / _KM_PER_DEGREE / squeeze / (axes.get_xlim()[1] - axes.get_xlim()[0])
    axes.plot([0.04, 0.04 + share], [0.025, 0.025], transform=axes.transAxes, color="black", linewidth=2.5, solid_capstyle="butt")
    name = f"{length_km:g} km" if length_km >= 1 else f"{length_km * 1000:g} m"
    box = {"facecolor": "white", "alpha": 0.8, "linewidth": 0, "pad": 1}
    axes.text(0.04, 0.035, name, transform=axes.transAxes, fontsize=8, va="bottom", bbox=box)
