"""STAC: an item, a collection of items, a collection or a catalogue in local JSON files; their assets may be anywhere GDAL reads.

Bands come from ``eo:bands`` and ``raster:bands`` (STAC 1.0) or ``bands`` (1.1), else from the assets' keys.
Source: STAC specification 1.1; extensions eo, raster, view, sar, processing; for ``earthsearch:boa_offset_applied`` Element84/earth-search
issues 9 and 71: the flag decides where it is true (raster offsets then still say -0.1), and is wrong in many items where it is false.
"""

from collections.abc import Sequence
import pathlib
import re
from typing import Any

import pystac

from rsfm_jax.errors import InputError, nearest
from rsfm_jax.ingest.products import hls, landsat, sentinel2
from rsfm_jax.ingest.products.product import Entry, Product, azimuth, elevation, number, percent, without_none
from rsfm_jax.ingest.products.stac_bands import band_name, sensor_of
from rsfm_jax.ingest.products.stac_files import files_of, items_of, stac_content
from rsfm_jax.sensors import SENSORS, Sensor

_SUFFIXES = (".json", ".geojson")
_PICTURES = ("thumbnail", "overview", "visual", "preview", "rendered_preview", "tilejson")
_MASKS: dict[str, Entry] = {
    "scl": {"invalid": sentinel2.SCL_INVALID},
    "qa_pixel": {"bits": landsat.QA_BITS["QA_PIXEL"]},
    "fmask": {"bits": hls.FMASK_BITS},
}


def find(files: Sequence[pathlib.Path]) -> list[Product]:
    """STAC files with the local files of their assets; an item that a catalogue links to is part of the catalogue."""
    contents = {file: found for file in files if file.suffix.lower() in _SUFFIXES and (found := stac_content(file))}
    catalogues = [file for file, content in contents.items() if content.get("type") in ("Catalog", "Collection")]
    products: list[Product] = []
    for file in sorted(catalogues, key=lambda f: (len(f.parts), f)) + [f for f in contents if f not in catalogues]:
        if not any(file in product.files for product in products):
            products.append(Product(file, files_of(file)))
    return products


def read(path: pathlib.Path) -> list[Entry | InputError]:
    """The scenes of a STAC file.

    Args:
      path: JSON of an item, of a collection of items, of a collection or of a catalogue.

    Returns:
      Entries of `scenes.yaml`, one for each item; in the place of one that is wrong, what is wrong with it: no date, sensor or bands, an
      asset without file, or a baseline offset that is not certain.

    Raises:
      InputError: no STAC.
    """
    content = stac_content(path)
    if not content:
        raise InputError(f"{path}: is not a STAC file (JSON with stac_version)")
    return [item if isinstance(item, InputError) else _scene_or_error(path, item) for item in items_of(path, content)]


def _scene_or_error(path: pathlib.Path, item: pystac.Item) -> Entry | InputError:
    try:
        return _scene(path, item)
    except InputError as error:
        return error
    except (pystac.STACError, KeyError, ValueError) as error:
        return InputError(f"{path}: item {item.id!r}: not valid STAC ({type(error).__name__}: {error})")


def _scene(path: pathlib.Path, item: pystac.Item) -> Entry:
    where = f"{path}: item {item.id!r}"
    properties = item.properties
    sensor = sensor_of(item.collection_id, properties)
    if sensor is None and re.match(r"sentinel-1-(grd|slc)", item.collection_id or ""):
        raise InputError(f"{where}: is in the radar's geometry; take a terrain-corrected product (RTC), converted to dB")
    if sensor is None:
        stated = properties.get("rsfm:sensor")
        said = f"rsfm:sensor {stated!r} is not in the registry{nearest(str(stated), SENSORS)}" if stated else "its sensor is not known"
        raise InputError(
            f"{where}: {said} (collection {item.collection_id!r}, platform {properties.get('platform')!r}); write a sensor of "
            "rsfm_jax/sensors.py into its properties as 'rsfm:sensor'"
        )
    if "rsfm:sensor" not in properties and item.collection_id == "sentinel-1-rtc":
        raise InputError(
            f"{where}: holds linear power, and backscatter must be in dB: convert it, 10 * log10(power), and describe the files anew"
        )
    bands, offsets = _bands(where, item, sensor)
    zenith = properties.get("s2:mean_solar_zenith", properties.get("s2:mean_solar_zenith_angle"))
    view = azimuth(properties.get("view:azimuth"))
    return without_none(
        id=item.id,
        sensor=sensor.name,
        acquired_utc=_time(properties),
        sun_elevation_deg=number(properties.get("view:sun_elevation")) or elevation(zenith),
        sun_azimuth_deg=azimuth(properties.get("view:sun_azimuth", properties.get("s2:mean_solar_azimuth"))),
        off_nadir_deg=number(properties.get("view:off_nadir")),
        incidence_deg=number(properties.get("view:incidence_angle")),
        view_azimuth_deg=None if view is None else (view + 180) % 360,  # STAC looks from below the satellite to the scene
        cloud_percent=percent(properties.get("eo:cloud_cover")),
        bands=bands,
        mask=_mask(item),
        **(_baseline(where, item, bands, offsets) if sensor.needs_baseline_offset else {}),
    )


def _time(properties: dict[str, Any]) -> str:
    """The time of an item; of one with an interval alone, its middle."""
    if properties.get("datetime"):
        return str(properties["datetime"])
    start, end = (pystac.utils.str_to_datetime(properties[f"{side}_datetime"]) for side in ("start", "end"))
    return (start + (end - start) / 2).isoformat()


def _mask(item: pystac.Item) -> Entry | None:
    for key, asset in item.assets.items():
        if key.lower() in _MASKS:
            return {"file": _href(asset), **_MASKS[key.lower()]}
    return None


def _href(asset: pystac.Asset) -> str:
    return asset.get_absolute_href() or asset.href


def _bands(where: str, item: pystac.Item, sensor: Sensor) -> tuple[Entry, dict[str, float | None]]:
    """The bands of an item's assets, and for each the offset that the metadata states."""
    found: dict[str, list[tuple[tuple, str, Entry, float | None]]] = {}
    for key, asset in item.assets.items():
        if key.lower() in (*_PICTURES, *_MASKS) or set(asset.roles or ()) & set(_PICTURES) or "metadata" in (asset.roles or ()):
            continue
        extra = asset.extra_fields
        declared = extra.get("bands") or extra.get("eo:bands") or []
        raster = extra.get("raster:bands") or []
        count = max(len(declared), len(raster), 1)
        polarisations = next(
            (p for p in (extra.get("sar:polarizations"), item.properties.get("sar:polarizations")) if p and len(p) == count), []
        )
        for i in range(count):
            band = declared[i] if i < len(declared) else {}
            common = band.get("eo:common_name", band.get("common_name"))
            own_key = key.removesuffix("-jp2") if count == 1 else None
            polarisation = polarisations[i] if polarisations and (count > 1 or "sar:polarizations" in extra) else None
            name = band_name(sensor, band.get("name"), common, own_key, own_key and own_key.split("_")[0], polarisation)
            if name is None:
                if band.get("name") or common:
                    raise InputError(
                        f"{where}, asset {key!r}: band {band.get('name') or common!r} is not one of {sensor.name} (it has "
                        f"{', '.join(sensor.bands)}){nearest(str(band.get('name')), sensor.bands)}; correct its name, or take the asset out"
                    )
                continue
            stated = _stated(item, extra, band, raster[i] if i < len(raster) else {})
            gsd = number(extra.get("gsd") or band.get("gsd") or stated.pop("spatial_resolution")) or sensor.bands[name].gsd_m
            stated.pop("spatial_resolution", None)
            rank = (abs(gsd - sensor.bands[name].gsd_m), "jp2" in (asset.media_type or ""))
            if sensor.name.startswith("hls_"):  # the user guide's: tags and catalogues leave out the offset of degrees Celsius
                stated |= {"scale": sensor.bands[name].scale, "offset": sensor.bands[name].offset}
            entry = {"file": _href(asset), "index": i + 1, **without_none(**stated)}
            found.setdefault(name, []).append((rank, key, entry, stated["offset"]))
    if not found:
        raise InputError(
            f"{where}: no asset is a band of {sensor.name} (assets: {', '.join(item.assets) or 'none'}); name bands in eo:bands or bands"
        )
    bands, offsets = {}, {}
    for name in (name for name in sensor.bands if name in found):
        best, *others = sorted(found[name], key=lambda one: one[:2])
        if others and others[0][0] == best[0]:
            raise InputError(f"{where}: assets {best[1]!r} and {others[0][1]!r} both hold band {name}; take one out")
        bands[name], offsets[name] = best[2:]
    return bands, offsets


def _stated(item: pystac.Item, extra: dict[str, Any], band: dict[str, Any], raster: dict[str, Any]) -> Entry:
    """Scale, offset, nodata and resolution of a band: its own, else the asset's, else the item's."""
    places = (band, raster, extra, item.properties)
    fields = {}
    for field in ("scale", "offset", "nodata", "spatial_resolution"):
        keys = (f"raster:{field}", field) if field != "nodata" else ("nodata", "raster:nodata")
        values = (place[key] for place in places for key in keys if place.get(key) is not None)
        fields[field] = number(next(values, None))
    return fields


def _baseline(where: str, item: pystac.Item, bands: Entry, offsets: dict[str, float | None]) -> Entry:
    """The Sentinel-2 baseline offset; takes it out of the bands' own offsets, where catalogues repeat it."""
    properties = item.properties
    stated = properties.get("rsfm:baseline_offset_dn")
    baseline = properties.get("s2:processing_baseline", properties.get("processing:version"))
    applied = properties.get("earthsearch:boa_offset_applied")
    new = (number(str(baseline).split(".")[0].removeprefix("N")) or 0) >= 4
    told = {None if offset is None else round(offset / (bands[name].get("scale") or 1e-4)) for name, offset in offsets.items()}
    for band in bands.values():
        band.pop("offset", None)
        band["offset"] = 0.0
    fix = "compare the pixels with the original product, and write the property 'rsfm:baseline_offset_dn' (0 or -1000)"
    if stated is not None:
        return {"baseline_offset_dn": stated}
    if applied is True:
        return {"baseline_offset_dn": 0}
    if applied is False and new and item.collection_id == "sentinel-2-l2a":
        raise InputError(
            f"{where}: earthsearch:boa_offset_applied is false at baseline {baseline}, which is wrong in many items of this collection; "
            f"{fix}"
        )
    if len(told) > 1 or told - {None, 0, -1000}:
        raise InputError(f"{where}: the bands' offsets are {sorted(map(str, told))} digital numbers; expected 0 or -1000 for all; {fix}")
    (dn,) = told
    if baseline is not None and dn is not None and dn != (-1000 if new else 0):
        raise InputError(f"{where}: s2:processing_baseline {baseline} and raster offset {dn} digital numbers contradict each other; {fix}")
    return without_none(processing_baseline=baseline, baseline_offset_dn=dn)
