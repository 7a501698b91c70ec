"""Elevation models, known by names: Copernicus DEM, ALOS, SRTM, ASTER, or a file called a DEM, DTM or DSM. They have no acquisition time.

A surface model (DSM: Copernicus, ALOS) is not a terrain model: canopy and roofs are in it. Heights are in metres, or the file says so.
"""

from collections.abc import Sequence
import pathlib
import re

from rsfm_jax.errors import InputError
from rsfm_jax.ingest.products.product import Entry, Product, without_none
from rsfm_jax.ingest.raster import reading

_SURFACE = re.compile(r"(?:.*[_\-. ])?dsm(?:\d+m?)?(?:[_\-. ].*)?|Copernicus_DSM_.*_DEM", re.IGNORECASE)
_TERRAIN = re.compile(r"(?:.*[_\-. ])?(?:dem|dtm)(?:\d+m?)?(?:[_\-. ].*)?|[NS]\d\d[EW]\d{3}|[ns]\d\d_[ew]\d{3}_.*arc.*", re.IGNORECASE)
_DERIVED = re.compile(r"hillshade|slope|aspect|relief|mask|_diff", re.IGNORECASE)
_SUFFIXES = (".tif", ".tiff", ".hgt")
_METRES = ("", "m", "metre", "metres", "meter", "meters")


def _sensor(file: pathlib.Path) -> str | None:
    if file.suffix.lower() not in _SUFFIXES or _DERIVED.search(file.stem):
        return None
    return "dsm" if _SURFACE.fullmatch(file.stem) else "dem" if _TERRAIN.fullmatch(file.stem) else None


def find(files: Sequence[pathlib.Path]) -> list[Product]:
    """Files named as elevation models."""
    return [Product(file, frozenset([file])) for file in files if _sensor(file)]


def read(path: pathlib.Path) -> list[Entry]:
    """The scene of an elevation model.

    Args:
      path: The file.

    Returns:
      One entry of `scenes.yaml`.

    Raises:
      InputError: a file that cannot be read, has several bands, or heights in another unit than metres.
    """
    with reading(path, str(path)) as dataset:
        count, unit = dataset.count, dataset.units[0] or ""
    if count != 1:
        raise InputError(f"{path}: has {count} bands, an elevation model has one; describe it in a scenes.yaml")
    if unit.lower() not in _METRES:
        raise InputError(f"{path}: heights are in {unit!r}; describe it in a scenes.yaml with the scale to metres (0.3048 for feet)")
    bands = {"elevation": {"file": str(path), "index": 1}}
    name = f"{path.absolute().parent.name}_{path.stem}"  # many a folder has a dem.tif
    return [without_none(id=name, sensor=_sensor(path), acquired_utc="unknown", bands=bands)]
