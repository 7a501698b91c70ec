"""Which sensor a STAC item is of, and which of its bands an asset holds. Catalogues differ in both; the tables here are theirs.

An item can say it itself, in the properties ``rsfm:sensor`` (a name of the registry) and ``rsfm:baseline_offset_dn``.
"""

from collections.abc import Mapping
import re
from typing import Any

from rsfm_jax.sensors import SENSORS, Sensor

_COLLECTIONS = {  # collection ids of Earth Search, Planetary Computer, the Copernicus Data Space, LP DAAC and USGS
    r"sentinel-2-(c1-)?l1c": "sentinel2_l1c",
    r"sentinel-2-(c1-|pre-c1-)?l2a|sentinel-s2-l2a(-cogs)?": "sentinel2_l2a",
    r"sentinel-1-rtc": "sentinel1_grd",
    r"naip": "naip",
    r"hlsl30.*|hls2-l30": "hls_l30",
    r"hlss30.*|hls2-s30": "hls_s30",
    r"cop-dem-glo-(30|90)|alos-dem": "dsm",
    r"nasadem": "dem",
}
_S2_COMMON = {
    "coastal": "B01",
    "blue": "B02",
    "green": "B03",
    "red": "B04",
    "rededge1": "B05",
    "rededge2": "B06",
    "rededge3": "B07",
    "rededge071": "B05",
    "rededge075": "B06",
    "rededge078": "B07",
    "nir": "B08",
    "nir08": "B8A",
    "nir09": "B09",
    "cirrus": "B10",
    "swir16": "B11",
    "swir22": "B12",
}
_TM_COMMON = {
    "blue": "B1",
    "green": "B2",
    "red": "B3",
    "nir08": "B4",
    "nir": "B4",
    "swir16": "B5",
    "swir22": "B7",
    "pan": "B8",
    "lwir": "B6",
}
_OLI_COMMON = {"coastal": "B1", "blue": "B2", "green": "B3", "red": "B4", "nir08": "B5", "nir": "B5", "swir16": "B6", "swir22": "B7"}
_OLI_COMMON |= {"pan": "B8", "cirrus": "B9", "lwir11": "B10", "lwir12": "B11"}
_COMMON: dict[str, Mapping[str, str]] = {
    "sentinel2": _S2_COMMON,
    "hls_s30": _S2_COMMON,
    "hls_l30": {common: f"B{int(name[1:]):02}" for common, name in _OLI_COMMON.items()},
    "landsat4": _TM_COMMON,
    "landsat5": _TM_COMMON,
    "landsat7": _TM_COMMON,
    "landsat8": _OLI_COMMON,
    "landsat9": _OLI_COMMON,
    "naip": {"red": "R", "green": "G", "blue": "B", "nir": "N"},
    "dem": {"data": "elevation"},
    "dsm": {"data": "elevation", "dsm": "elevation"},
}


def sensor_of(collection: str | None, properties: Mapping[str, Any]) -> Sensor | None:
    """The sensor that an item names, or that its collection, platform and level imply; None when they do not."""
    if "rsfm:sensor" in properties:
        return SENSORS.get(str(properties["rsfm:sensor"]))
    name = next((sensor for pattern, sensor in _COLLECTIONS.items() if re.fullmatch(pattern, (collection or "").lower())), None)
    if name is not None:
        return SENSORS[name]
    platform = str(properties.get("platform", "")).lower().replace("_", "-")
    if match := re.fullmatch(r"landsat-(\d)", platform):
        level = re.search(
            r"l([12])", f"{properties.get('landsat:correction', properties.get('processing:level', ''))} {collection}".lower()
        )
        return SENSORS.get(f"landsat{match[1]}_l{level[1]}") if level else None
    if re.fullmatch(r"sentinel-2[a-d]", platform):
        level = re.search(r"l?(1c|2a)", f"{properties.get('s2:product_type', properties.get('processing:level', ''))}".lower())
        return SENSORS[f"sentinel2_l{level[1]}"] if level else None
    return None


def band_name(sensor: Sensor, *names: str | None) -> str | None:
    """The sensor's band that one of an asset's names means, in the order of the names; None when none does.

    Args:
      sensor: The sensor.
      *names: A band's name, its common name, the asset's key; None for those not given.

    Returns:
      A name of the sensor's bands, or None.
    """
    common = next((table for prefix, table in _COMMON.items() if sensor.name.startswith(prefix)), {})
    for name in names:
        if not name:
            continue
        bare = re.sub(r"^(OLI|TIRS|TM|ETM|SR)_", "", str(name))
        padded = re.sub(r"^B(\d)$", r"B0\1", bare)
        unpadded = re.sub(r"^B0(\d)$", r"B\1", bare)
        wanted = (str(name), bare, padded, unpadded, common.get(bare.lower(), ""))
        for candidate in wanted + tuple(f"ST_{w}" for w in wanted):
            found = next((band for band in sensor.bands if band.lower() == candidate.lower()), None)
            if found:
                return found
    return None
