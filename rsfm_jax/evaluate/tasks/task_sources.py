"""The part of a task file that says where samples come from: images with labels, a table of places, or a dataset of the TFDS catalogue."""

import dataclasses
from typing import Any, Literal

from rsfm_jax.errors import InputError

Value = int | str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Imagery:
    """Images that chips are cut from.

    Attributes:
      images: Scenes with the fields of `scenes.yaml`, or the folder of one. Each must have the same number of bands.
      window_px: Side of a chip, in pixels of a scene's first band.
      before_px: How many pixels of a chip lie above, and left of, the sample's pixel; None for half of the side.
      resample: How bands on other grids than the first come onto its; None to refuse them.
      columns: Of each column (season, region, sensor, ...) its entry for each scene, by id.
      most: Samples to draw at most; None for all.
      draw_seed: Draws them.
    """

    images: Any
    window_px: int
    before_px: int | None = None
    resample: Literal["nearest", "bilinear", "cubic", "average"] | None = None
    columns: dict[str, dict[str, Value]] = dataclasses.field(default_factory=dict)
    most: int | None = None
    draw_seed: int = 0

    def __post_init__(self) -> None:
        if self.window_px < 1 or not 0 <= self.before < self.window_px:
            raise InputError(f"window_px is {self.window_px} and before_px {self.before_px}; expected 0 <= before_px < window_px")
        if self.most is not None and self.most < 1:
            raise InputError(f"most is {self.most}; expected at least 1")

    @property
    def before(self) -> int:
        """`before_px`, or half of the window."""
        return self.window_px // 2 if self.before_px is None else self.before_px


@dataclasses.dataclass(frozen=True)
class Labels:
    """Labels of one image, or of all.

    Attributes:
      kind: `raster` on the image's own grid; `vector` (GeoPackage, GeoJSON, shapefile); `boxes`, a CSV with xmin, ymin, xmax, ymax in
        pixels.
      file: Its path.
      image: Id of the scene; None for all scenes.
      index: Band of a raster, from 1.
      layer: Of a GeoPackage with several.
      attribute: Column of a vector file or of boxes that holds the value.
      value: The value of all shapes, instead of an attribute.
      background: Value of pixels that no shape holds; None for none: they have no label.
      crs: The coordinate system that the file's numbers are in, where its tag is wrong or missing.
      reproject: That the file's tag is right though it is not the image's: shapes are transformed.
    """

    kind: Literal["raster", "vector", "boxes"]
    file: str
    image: str | None = None
    index: int = 1
    layer: str | None = None
    attribute: str | None = None
    value: Value | None = None
    background: Value | None = None
    crs: str | None = None
    reproject: bool = False

    def __post_init__(self) -> None:
        if self.kind != "raster" and (self.attribute is None) == (self.value is None):
            raise InputError("shapes need either attribute, the column of their values, or value, that of all")
        if self.crs is not None and self.reproject:
            raise InputError("crs says that the file's tag is wrong and reproject that it is right; give one of them")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rasters(Imagery):
    """Images with label rasters or shapes.

    Attributes:
      labels: Where labels are.
      at: `points`: at each point of a vector file; `pixels`: at labelled pixels; `grid`: at every `stride_px`-th pixel.
      stride_px: Of the grid.
      most_per_shape: Pixels to draw at most of one polygon or box.
    """

    kind: Literal["rasters"]
    labels: tuple[Labels, ...]
    at: Literal["points", "pixels", "grid"]
    stride_px: int | None = None
    most_per_shape: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.at == "grid") != (self.stride_px is not None) or (self.stride_px is not None and self.stride_px < 1):
            raise InputError(f"at is {self.at!r} and stride_px {self.stride_px}; expected stride_px of at least 1 for at: grid only")
        if self.at == "points" and any(labels.kind != "vector" for labels in self.labels):
            raise InputError("at: points takes labels of kind vector")
        if self.most_per_shape is not None and (self.at != "pixels" or self.most_per_shape < 1):
            raise InputError(f"most_per_shape is {self.most_per_shape} with at: {self.at}; expected at least 1, with at: pixels")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Points(Imagery):
    """A table of places over images.

    Attributes:
      file: CSV with a header.
      target: Column of the target; several of zeros and ones for kind multilabel.
      x: Column of longitude, or easting.
      y: Column of latitude, or northing.
      crs: Coordinate system of both; longitude and latitude by default.
      image: Column with the id of the scene; None for every scene that holds the point.
      groups: Columns to keep, for splits.
    """

    kind: Literal["points"]
    file: str
    target: tuple[str, ...]
    x: str = "lon"
    y: str = "lat"
    crs: str = "EPSG:4326"
    image: str | None = None
    groups: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Feature:
    """Where a band is in a TFDS example: a feature (a / b for nested ones) and, where that has several, the channel from 1."""

    feature: str
    index: int | None = None


@dataclasses.dataclass(frozen=True)
class Catalogue:
    """A dataset of the TFDS catalogue, prepared on this machine.

    Attributes:
      name: As `eurosat/all`.
      splits: Its splits; each sample has the column `split`.
      sensor: Sensor of the images.
      bands: Where each band of the sensor is.
      gsd_m: Metres per pixel.
      label: Feature of the label: a class, a quantity, or for multilabel a sequence of classes.
      scale: Physical value of a stored step.
      offset: Physical value of a stored zero.
      nodata: Stored value of missing pixels.
      groups: Features to keep as columns, for splits.
      scene: Feature that names the scene; None where every sample is one.
      most: Samples to draw at most of each split.
      draw_seed: Draws them.
      data_dir: Folder of TFDS datasets; None for TFDS' own.
    """

    kind: Literal["tfds"]
    name: str
    splits: tuple[str, ...]
    sensor: str
    bands: dict[str, Feature]
    gsd_m: float
    label: str
    scale: float
    offset: float
    nodata: float | None = None
    groups: tuple[str, ...] = ()
    scene: str | None = None
    most: int | None = None
    draw_seed: int = 0
    data_dir: str | None = None

    def __post_init__(self) -> None:
        if not self.bands or not self.splits or not self.gsd_m > 0:
            raise InputError(f"bands, splits and gsd_m are {list(self.bands)}, {list(self.splits)}, {self.gsd_m:g}; none may be empty or 0")
