"""Rasters on disk: grids, nodata and scaling of a scene's bands, looked at once through rasterio.

`open_scene` looks at every file of a scene, so that what is broken is found before anything is written.
"""

from collections.abc import Iterator
import contextlib
import dataclasses
import math
import pathlib
import warnings

import numpy as np
import rasterio
from rasterio.crs import CRS
from rasterio.enums import ColorInterp, MaskFlags
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.windows import Window

from rsfm_jax.errors import InputError
from rsfm_jax.geo import Rect
from rsfm_jax.ingest.coordinates import GSD_TOLERANCE, check_on_earth, horizontal, is_metric, rect_in, short_name, stated_crs, to_lonlat
from rsfm_jax.ingest.radar import Conversion, conversion_of
from rsfm_jax.ingest.scaling import scale_and_offset
from rsfm_jax.ingest.scenes import BandSource, Scene

__all__ = ["GSD_TOLERANCE", "BandRaster", "OpenScene", "open_scene", "opened", "pixels_window", "reading", "rect_in", "to_lonlat"]

GRID_TOLERANCE = 0.01  # of a pixel, at which two grids still count as the same
_DTYPES = ("uint8", "int8", "uint16", "int16", "uint32", "int32", "float32", "float64")


@dataclasses.dataclass(frozen=True)
class BandRaster:
    """One band of a scene, opened once.

    Attributes:
      source: What `scenes.yaml` says.
      index: Number of the band in the file, from 1.
      dtype: numpy type of the recorded digital numbers: the stored ones', or float32 after a conversion.
      height: Rows.
      width: Columns.
      transform: Pixel to ground, an affine of the file's coordinate system.
      scale: Multiplies the digital number.
      offset: Added afterwards, in the band's unit; holds the Sentinel-2 baseline offset.
      nodata: Stored number of missing pixels, or None.
      nodata_from: Who said so: ``"scenes.yaml"``, ``"file"``, ``"sensor"`` or ``"nobody"``.
      own_mask: Whether the file has a mask of its own: internal, .msk or alpha.
      conversion: From stored to recorded numbers, or None when they are the same.
    """

    source: BandSource
    index: int
    dtype: str
    height: int
    width: int
    transform: rasterio.Affine
    scale: float
    offset: float
    nodata: float | None
    nodata_from: str
    own_mask: bool = False
    conversion: Conversion | None = None

    @property
    def stored_nodata(self) -> np.generic | None:
        """The nodata value in the type of the file; None when there is none, no pixel can have it, or it is NaN, which is never valid."""
        dtype = np.dtype(self.conversion.dtype if self.conversion else self.dtype)
        if self.nodata is None or math.isnan(self.nodata):
            return None
        if dtype.kind in "iu" and not (self.nodata.is_integer() and np.iinfo(dtype).min <= self.nodata <= np.iinfo(dtype).max):
            return None
        with np.errstate(over="ignore"):  # a float64 nodata of a float32 file becomes infinite
            return dtype.type(self.nodata)

    @property
    def north_up(self) -> bool:
        """Whether rows run west to east and columns north to south."""
        t = self.transform
        return t.b == 0 and t.d == 0 and t.a > 0 and t.e < 0

    @property
    def gsd_m(self) -> float:
        """Pixel size, the geometric mean of both sides, in units of the coordinate system."""
        return math.sqrt(abs(self.transform.determinant))

    @property
    def rect(self) -> Rect:
        """The bounding box in the coordinate system of the file."""
        corners = [self.transform @ point for point in ((0, 0), (self.width, 0), (0, self.height), (self.width, self.height))]
        xs, ys = zip(*corners, strict=True)
        return Rect(min(xs), min(ys), max(xs), max(ys))

    def same_grid(self, other: "BandRaster") -> bool:
        """Whether both bands have the same pixels on the ground, to a hundredth of a pixel at every corner."""
        if (self.height, self.width) != (other.height, other.width):
            return False
        to_other = ~other.transform @ self.transform
        corners = ((0, 0), (self.width, 0), (0, self.height), (self.width, self.height))
        return all(math.dist(corner, to_other @ corner) < GRID_TOLERANCE for corner in corners)


@dataclasses.dataclass(frozen=True)
class OpenScene:
    """A scene whose files have been looked at.

    Attributes:
      scene: What `scenes.yaml` says.
      crs: The horizontal coordinate system of all bands.
      bands: Every band's grid and scaling, by name.
      metric: Whether a unit of the coordinate system is a metre on the ground, to within 1 %; Web Mercator's is not.
      stated_crs: As the files state it, with its vertical part if it has one.
    """

    scene: Scene
    crs: CRS
    bands: dict[str, BandRaster]
    metric: bool
    stated_crs: CRS


def pixels_window(column: int, row: int, width: int, height: int) -> Window:
    """A window of a raster, in pixels."""
    return Window(column, row, width, height)  # pyright: ignore[reportCallIssue] - an attrs class that type checkers cannot see into


def opened(path: str | pathlib.Path, who: str) -> rasterio.DatasetReader:
    """An open raster, to be closed by the caller; what rasterio cannot read becomes an `InputError` that starts with ``who``."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)  # reported as an InputError by open_scene
            return rasterio.open(path)
    except RasterioError as error:
        raise _unreadable(path, who, error) from None


def _unreadable(path: str | pathlib.Path, who: str, error: Exception) -> InputError:
    return InputError(f"{who}: {path} cannot be read as an image ({error}); is it truncated, or not a raster?")


@contextlib.contextmanager
def reading(path: str | pathlib.Path, who: str) -> Iterator[rasterio.DatasetReader]:
    """Opens a raster for a block; what rasterio cannot read in it becomes an `InputError` that starts with ``who``."""
    with opened(path, who) as dataset:
        try:
            yield dataset
        except RasterioError as error:
            raise _unreadable(path, who, error) from None


def open_scene(scene: Scene) -> OpenScene:
    """Looks at every file of a scene.

    Args:
      scene: The described scene.

    Returns:
      The scene with its coordinate system and grids.

    Raises:
      InputError: a file that is no image or is truncated, a band number the file does not have, a coordinate system that is missing or
        cannot be used, bands in different coordinate systems, a corner that is not on Earth, or numbers that are no measurements in the
        unit of their band.
    """
    bands: dict[str, BandRaster] = {}
    crs: CRS | None = None
    measured = {(source.path, source.index or 1) for source in scene.bands.values()}
    for name, source in scene.bands.items():
        who = f"{scene.described_in}: scene {scene.id!r}, band {name!r}"
        with reading(source.path, who) as dataset:
            stated = stated_crs(dataset, source.path, who)
            if crs is not None and horizontal(stated) != horizontal(crs):
                raise InputError(
                    f"{who}: {source.path} is in {short_name(stated)}, the bands before it in {short_name(crs)}; "
                    "describe them as two scenes"
                )
            if source.index is None and dataset.count > 1:
                raise InputError(f"{who}: {source.path} has {dataset.count} bands; say which, as {{file: {source.path}, index: 1}}")
            index = source.index or 1
            if index > dataset.count:
                raise InputError(f"{who}: index {index} does not exist, {source.path} has {dataset.count} band(s)")
            twice = [other for other, band in bands.items() if (band.source.path, band.index) == (source.path, index)]
            if twice:
                raise InputError(f"{who}: is the same band {index} of {source.path} as {twice[0]!r}; name another file or index")
            crs = crs or stated
            bands[name] = _band_raster(scene, source, index, dataset, who)
            alpha = 1 + dataset.colorinterp.index(ColorInterp.alpha) if ColorInterp.alpha in dataset.colorinterp else None
            if alpha and (source.path, alpha) in measured and MaskFlags.alpha in dataset.mask_flag_enums[0]:
                bands[name] = dataclasses.replace(bands[name], own_mask=False)  # as in NAIP, whose near infrared is marked as alpha
        check_on_earth(horizontal(crs), bands[name].rect, source.path, who)
    assert crs is not None, "a scene has at least one band"
    if scene.mask:
        _check_mask(scene, crs, list(bands.values()))
    return OpenScene(scene, horizontal(crs), bands, is_metric(horizontal(crs), next(iter(bands.values())).rect), crs)


def _check_mask(scene: Scene, crs: CRS, bands: list[BandRaster]) -> None:
    mask = scene.mask
    assert mask is not None
    who = f"{scene.described_in}: scene {scene.id!r}, mask"
    with reading(mask.path, who) as dataset:
        if mask.index > dataset.count:
            raise InputError(f"{who}: index {mask.index} does not exist, {mask.path} has {dataset.count} band(s)")
        found = horizontal(stated_crs(dataset, mask.path, who))
        if found != horizontal(crs):
            raise InputError(
                f"{who}: {mask.path} is in another coordinate system than the bands, {short_name(found)} and not {short_name(crs)}; "
                "warp it with gdalwarp -r near -t_srs"
            )
        if dataset.dtypes[mask.index - 1] not in _DTYPES:
            raise InputError(
                f"{who}: {mask.path} holds {dataset.dtypes[mask.index - 1]} values; convert them to one of {', '.join(_DTYPES)}"
            )
        for band in bands:
            to_mask = ~dataset.transform @ band.transform
            if max(abs(to_mask.b) * band.height, abs(to_mask.d) * band.width) > 0.5:
                raise InputError(
                    f"{who}: {mask.path} lies on a grid turned against that of {band.source.path}; warp it onto the bands' grid"
                )
        if mask.bits and not dataset.dtypes[mask.index - 1].startswith(("int", "uint")):
            raise InputError(f"{who}: {mask.path} holds {dataset.dtypes[mask.index - 1]} values, which have no bits")
        dataset.read(mask.index, window=pixels_window(dataset.width - 1, dataset.height - 1, 1, 1))


def _band_raster(scene: Scene, source: BandSource, index: int, dataset: rasterio.DatasetReader, who: str) -> BandRaster:
    i = index - 1
    dtype = dataset.dtypes[i]
    if dtype not in _DTYPES and not dtype.startswith("complex"):
        raise InputError(f"{who}: {source.path} holds {dtype} values; convert them to one of {', '.join(_DTYPES)}")
    if dataset.colorinterp[i] == ColorInterp.palette:
        raise InputError(
            f"{who}: band {index} of {source.path} holds the numbers of a colour table, no measurements; name the file they were drawn "
            "from, or take the table off with gdal_translate -colorinterp gray if the numbers are measurements"
        )
    last = pixels_window(dataset.width - 1, dataset.height - 1, 1, 1)
    dataset.read(index, window=last)  # a truncated file fails here
    scale, offset = scale_and_offset(scene, source, (dataset.scales[i], dataset.offsets[i]), dtype, who)
    conversion = conversion_of(source, dtype, scale, offset, who)
    said = {"scenes.yaml": source.nodata, "file": dataset.nodatavals[i], "sensor": source.band.nodata}
    nodata_from = next((who for who, value in said.items() if value is not None), "nobody")
    nodata = said.get(nodata_from)
    flags = dataset.mask_flag_enums[i]
    return BandRaster(
        source=source,
        index=index,
        dtype="float32" if conversion else dtype,
        height=dataset.height,
        width=dataset.width,
        transform=dataset.transform,
        scale=1.0 if conversion else scale,
        offset=0.0 if conversion else offset,
        nodata=None if nodata == "none" else nodata,
        nodata_from=nodata_from,
        own_mask=MaskFlags.per_dataset in flags or MaskFlags.alpha in flags,
        conversion=conversion,
    )
