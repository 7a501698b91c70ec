"""Labels of an image as arrays on its grid, or as points: rasters, shapes and boxes, their values as classes or quantities.

What coordinate system a file's numbers are in is its tag's, or what the task states; where the tag is not the image's, the task must say
which of the two holds. Nothing is guessed.

Legend: H W rows and columns of the image, M points.
"""

import dataclasses
import pathlib
from typing import Any

import geopandas
import numpy as np
import pandas
from rasterio.crs import CRS
from rasterio.errors import CRSError
from rasterio.features import rasterize

from rsfm_jax.errors import InputError, nearest
from rsfm_jax.evaluate.samples.imagery import Image
from rsfm_jax.evaluate.samples.samples import NO_LABEL
from rsfm_jax.evaluate.tasks.task import Task
from rsfm_jax.evaluate.tasks.task_sources import Labels
from rsfm_jax.ingest.raster import reading


@dataclasses.dataclass(frozen=True)
class LabelMap:
    """Labels of every pixel.

    Attributes:
      targets: Classes int64 (H, W) with `NO_LABEL`, or quantities float64 (H, W) with NaN.
      shape: Number of the shape that holds a pixel, int64 (H, W), -1 for none; None where labels are a raster.
      dropped: What could not be used, by reason.
    """

    targets: np.ndarray
    shape: np.ndarray | None
    dropped: dict[str, int]


def labels_of(labels: tuple[Labels, ...], image: Image, file: pathlib.Path) -> Labels:
    """The labels of an image; raises InputError unless there is exactly one entry for it."""
    fitting = [one for one in labels if one.image in (None, image.id)]
    if len(fitting) != 1:
        raise InputError(f"{file}: source: labels: {len(fitting)} entries are for image {image.id!r}; expected one")
    return fitting[0]


def to_targets(task: Task, values: Any, where: str) -> np.ndarray:
    """Values in labels as targets.

    Args:
      task: Its classes, and what is ignored.
      values: (M,), of any type; missing ones (None, NaN) have no label.
      where: The file, for messages.

    Returns:
      Classes int64 (M,) with `NO_LABEL`, or for regression float64 (M,) with NaN.

    Raises:
      InputError: A value is neither a class nor ignored, or no number.
    """
    if task.kind == "regression":
        try:
            numbers = np.asarray(pandas.to_numeric(pandas.Series(values)), np.float64)
        except (ValueError, TypeError) as error:
            raise InputError(f"{where}: targets are no numbers ({error})") from None
        return np.where(np.isin(numbers, [value for value in task.ignore if not isinstance(value, str)]), np.nan, numbers)
    codes, found = pandas.factorize(np.asarray(values), use_na_sentinel=True)
    keys = list(task.classes or ())
    table = np.full(len(found) + 1, NO_LABEL, np.int64)  # the last stands for missing values, whose code is -1
    for i, value in enumerate(_plain(value) for value in found):
        if value in keys:
            table[i] = keys.index(value)
        elif value not in task.ignore:
            names = [str(key) for key in keys]
            raise InputError(f"{where}: has the value {value!r}, which is neither in classes ({', '.join(names)}) nor in ignore")
    return table[codes]


def label_map(task: Task, labels: Labels, image: Image, root: pathlib.Path, file: pathlib.Path) -> LabelMap:
    """Reads labels onto an image's grid. A pixel is a shape's if its centre is in it; of shapes that overlap the later one holds it.

    Args:
      task: Classes, and what is ignored.
      labels: The entry for the image.
      image: The image.
      root: Folder that paths are relative to.
      file: The task file, for messages.

    Returns:
      The labels.

    Raises:
      InputError: A file is missing or broken, on another grid, in a coordinate system that is not accounted for, or has an unknown value.
    """
    path = existing(root, labels.file, f"{file}: source: labels")
    size = (image.grid.height, image.grid.width)
    if labels.kind == "raster":
        values = _raster(labels, path, image, f"{file}: source: labels")
        flat = values.filled(np.nan).reshape(-1)
        return LabelMap(to_targets(task, flat, str(path)).reshape(size), None, {})
    dropped = {}
    if labels.kind == "boxes":
        shape, values = _boxes(labels, path, image)
    else:
        frame = read_shapes(labels, path, image, f"{file}: source: labels")
        wrong = frame.geometry.isna() | ~frame.geometry.geom_type.isin(["Polygon", "MultiPolygon"])
        if wrong.any():
            raise InputError(f"{path}: {int(wrong.sum())} of {len(frame)} shapes are no polygons; expected polygons, or at: points")
        values = attribute(labels, frame, path)
        numbered = ((polygon, i + 1) for i, polygon in enumerate(frame.geometry))
        shape = np.asarray(rasterize(numbered, size, transform=image.grid.transform, dtype="int32"), np.int64) - 1 if len(frame) else None
    if shape is None or not len(values):
        raise InputError(f"{path}: has no shape")
    empty = len(values) - len(np.unique(shape[shape >= 0]))
    dropped["shapes that hold no pixel of the image"] = empty
    targets = to_targets(task, values, str(path))
    nothing = to_targets(task, [np.nan if labels.background is None else labels.background], f"{file}: source: labels: background")
    return LabelMap(np.concatenate([targets, nothing])[shape], shape, dropped)


def read_shapes(labels: Labels, path: pathlib.Path, image: Image, where: str) -> geopandas.GeoDataFrame:
    """Shapes of a vector file in the image's coordinate system.

    Args:
      labels: What the task says of the file.
      path: The file.
      image: The image.
      where: For messages.

    Returns:
      The shapes, with their attributes.

    Raises:
      InputError: The file can't be read, or its coordinate system is not accounted for.
    """
    try:
        frame = geopandas.read_file(path) if labels.layer is None else geopandas.read_file(path, layer=labels.layer)
    except Exception as error:  # GDAL's, of classes that depend on the driver
        raise InputError(f"{path}: cannot be read as shapes ({' '.join(str(error).split())})") from None
    if not isinstance(frame, geopandas.GeoDataFrame):
        raise InputError(f"{path}: has no geometry")
    tag = None if frame.crs is None else CRS.from_wkt(frame.crs.to_wkt())
    system = _system(labels, tag, image, f"{where}: {path}")
    frame = frame.set_crs(system.to_wkt(), allow_override=True)
    return frame if _same(system, image.scene.crs) else frame.to_crs(image.scene.crs.to_wkt())


def attribute(labels: Labels, frame: pandas.DataFrame, path: pathlib.Path) -> np.ndarray:
    """Values of shapes, (M,)."""
    if labels.attribute is None:
        return np.full(len(frame), labels.value, object)
    if labels.attribute not in frame:
        names = [str(name) for name in frame.columns]
        raise InputError(f"{path}: has no attribute {labels.attribute!r}; it has {', '.join(names[:20])}{nearest(labels.attribute, names)}")
    return np.asarray(frame[labels.attribute], object)


def existing(root: pathlib.Path, name: str, where: str) -> pathlib.Path:
    """The path of a file; raises InputError if there is none."""
    path = root / name
    if not path.is_file():
        near = nearest(path.name, [other.name for other in path.parent.iterdir()] if path.parent.is_dir() else [])
        raise InputError(f"{where}: file {path} does not exist{near}; give the folder of the data with --data_root")
    return path


def system_of(text: str, where: str) -> CRS:
    """A coordinate system from its name, such as EPSG:32632."""
    try:
        return CRS.from_user_input(text)
    except CRSError as error:
        raise InputError(f"{where}: crs {text!r} is no coordinate system ({error})") from None


def _system(labels: Labels, tag: CRS | None, image: Image, who: str) -> CRS:
    """The coordinate system that a file's numbers are in."""
    if labels.crs is not None:
        return system_of(labels.crs, who)
    if tag is None:
        raise InputError(f"{who} has no coordinate system; state crs, the one its numbers are in")
    if _same(tag, image.scene.crs) or labels.reproject:
        return tag
    raise InputError(
        f"{who} is in {tag.to_string()[:40]} and the image {image.id!r} in {image.scene.crs.to_string()[:40]}; state crs: the one its "
        "numbers are in if the tag is wrong, or reproject: true if it is right"
    )


def _same(one: CRS, other: CRS) -> bool:
    """Whether two systems have one name. Their `==` also takes systems for equal whose datum is unknown to one of them."""
    return one.to_string() == other.to_string()


def _raster(labels: Labels, path: pathlib.Path, image: Image, where: str) -> np.ma.MaskedArray:
    """A raster's band on the image's grid, float64, masked where it has nodata."""
    with reading(path, where) as dataset:
        if labels.index > dataset.count:
            raise InputError(f"{where}: index {labels.index} does not exist, {path} has {dataset.count} band(s)")
        system = _system(labels, dataset.crs, image, f"{where}: {path}")
        same = dataset.shape == (image.grid.height, image.grid.width) and dataset.transform.almost_equals(image.grid.transform, 1e-6)
        if not _same(system, image.scene.crs) or not same:
            raise InputError(
                f"{where}: {path} is not on the grid of image {image.id!r}; warp it there (gdalwarp -r near, with -t_srs, -te and -ts)"
            )
        return np.ma.masked_invalid(dataset.read(labels.index, masked=True).astype(np.float64))


def _boxes(labels: Labels, path: pathlib.Path, image: Image) -> tuple[np.ndarray, np.ndarray]:
    """Number of the box that holds each pixel, int64 (H, W), and the boxes' values."""
    table = pandas.read_csv(path)
    edges = ["xmin", "ymin", "xmax", "ymax"]
    missing = [name for name in edges if name not in table]
    if missing:
        raise InputError(f"{path}: has no column {missing[0]!r}; boxes need {', '.join(edges)}")
    if "image_path" in table:
        table = table.loc[table["image_path"] == pathlib.PurePath(image.grid.source.path).name]
    shape = np.full((image.grid.height, image.grid.width), -1, np.int64)
    for i, (xmin, ymin, xmax, ymax) in enumerate(np.asarray(table[edges], np.float64)):
        if not (0 <= xmin < xmax and 0 <= ymin < ymax):
            raise InputError(f"{path}: box {i} has the edges {xmin:g}, {ymin:g}, {xmax:g}, {ymax:g}; expected min below max, from 0")
        shape[round(ymin) : round(ymax), round(xmin) : round(xmax)] = i
    return shape, attribute(labels, table, path)


def _plain(value: Any) -> Any:
    """A number without a fraction as int, so that a raster's 3.0 is class 3."""
    if isinstance(value, float | np.floating) and float(value).is_integer():
        return int(value)
    return value.item() if isinstance(value, np.generic) else value
