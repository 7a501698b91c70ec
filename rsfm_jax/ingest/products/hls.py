"""Harmonized Landsat Sentinel-2 tiles (HLSL30, HLSS30), version 2, known by their names.

Scale and offset are the user guide's and do not come from the files, whose tags lack the offset of brightness temperatures in Celsius.
Source: Harmonized Landsat Sentinel-2 Product User Guide v2.0, tables 6 to 9.
"""

from collections.abc import Sequence
import datetime
import pathlib
import re

from rsfm_jax.errors import InputError
from rsfm_jax.ingest.products.product import Entry, Product, azimuth, by_name, elevation, number, percent, siblings, without_none
from rsfm_jax.ingest.raster import reading
from rsfm_jax.sensors import get_sensor

_NAME = re.compile(r"(HLS\.([LS]30)\.T\d\d[A-Z]{3}\.(\d{7}T\d{6})\.v\d\.\d)\.?(.*)\.(?:tif|xml|json|jpg|stac)", re.IGNORECASE)
FMASK_BITS = [1, 2, 3]  # cloud, next to cloud or shadow, cloud shadow; fill is 255 and has them too


def find(files: Sequence[pathlib.Path]) -> list[Product]:
    """Files that share a tile's name in one folder."""
    return [Product(min(of_one), frozenset(of_one)) for of_one in by_name(files, _NAME).values()]


def read(path: pathlib.Path) -> list[Entry]:
    """The scene of a tile.

    Args:
      path: One of its files.

    Returns:
      One entry of `scenes.yaml`.

    Raises:
      InputError: no band, or a file that cannot be read.
    """
    matches = [(file, match) for file in siblings(path, _NAME) if (match := _NAME.fullmatch(file.name))]
    parts = {match[4].upper(): file for file, match in matches if file.suffix.lower() == ".tif"}
    _, first = matches[0]
    sensor = get_sensor(f"hls_{first[2].lower()}")
    bands = {name: band for name, band in sensor.bands.items() if name in parts}
    if not bands:
        raise InputError(f"{path}: none of the tile's files is a band of {sensor.name} (seen: {', '.join(parts) or 'no GeoTIFF'})")
    with reading(parts[next(iter(bands))], str(path)) as dataset:
        tags = dataset.tags()
    return [
        without_none(
            id=first[1],
            sensor=sensor.name,
            acquired_utc=datetime.datetime.strptime(first[3], "%Y%jT%H%M%S").isoformat() + "Z",
            nodata=-9999,
            sun_elevation_deg=elevation(tags.get("MEAN_SUN_ZENITH_ANGLE")),
            sun_azimuth_deg=azimuth(tags.get("MEAN_SUN_AZIMUTH_ANGLE")),
            incidence_deg=number(tags.get("MEAN_VIEW_ZENITH_ANGLE")),
            view_azimuth_deg=azimuth(tags.get("MEAN_VIEW_AZIMUTH_ANGLE")),
            cloud_percent=percent(tags.get("cloud_coverage")),
            bands={
                name: {"file": str(parts[name]), "index": 1, "scale": band.scale, "offset": band.offset} for name, band in bands.items()
            },
            mask={"file": str(parts["FMASK"]), "bits": FMASK_BITS} if "FMASK" in parts else None,
        )
    ]
