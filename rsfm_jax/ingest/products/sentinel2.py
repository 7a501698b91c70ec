"""Sentinel-2 products as ESA delivers them: SAFE folders of level 1C and 2A, format of December 2016 and later.

The baseline offset is the product's own (RADIO_ADD_OFFSET, BOA_ADD_OFFSET), never inferred from a date.
Source: Sentinel-2 Products Specification Document 14.9, sections 3.4 and 4.
"""

from collections.abc import Sequence
import pathlib
import re
from xml.etree import ElementTree

from rsfm_jax.errors import InputError
from rsfm_jax.ingest.products.product import (
    Entry,
    Product,
    elevation,
    mean_azimuth,
    needed,
    number,
    percent,
    read_xml,
    without_none,
    xml_text,
)
from rsfm_jax.sensors import get_sensor

# No data, saturated or defective, cloud shadow, cloud of medium and high probability, thin cirrus.
SCL_INVALID = [0, 1, 3, 8, 9, 10]
_METADATA = {"MTD_MSIL1C.xml": "sentinel2_l1c", "MTD_MSIL2A.xml": "sentinel2_l2a"}
_FOLDER = re.compile(r"S2[A-D]_MSIL(?:1C|2A)_.*\.SAFE")
_IMAGE = re.compile(r".*_(B\d\d|B8A|SCL)(?:_(\d\d)m)?\.(?:jp2|tiff?)", re.IGNORECASE)
_BAND_IDS = tuple(get_sensor("sentinel2_l1c").bands)  # the metadata numbers the bands in this order, from 0


def find(files: Sequence[pathlib.Path]) -> list[Product]:
    """SAFE folders: with level 1C or 2A metadata, or called like one."""
    folders = {file.parent for file in files if file.name in _METADATA}
    folders |= {parent for file in files for parent in file.parents if _FOLDER.fullmatch(parent.name)}
    products = []
    for folder in sorted(folders):
        inside = frozenset(file for file in files if folder in file.parents)
        products.append(Product(next((folder / name for name in _METADATA if folder / name in inside), folder), inside))
    return products


def read(path: pathlib.Path) -> list[Entry]:
    """The scenes of a product, one for each granule.

    Args:
      path: A SAFE folder, or the MTD_MSIL1C.xml or MTD_MSIL2A.xml in it.

    Returns:
      Entries of `scenes.yaml`.

    Raises:
      InputError: metadata is missing, or contradicts itself or the product's name; no image.
    """
    folder = path if path.is_dir() else path.parent
    found = [folder / name for name in _METADATA if (folder / name).is_file()]
    if len(found) != 1:
        raise InputError(f"{folder}: has {len(found)} of {' and '.join(_METADATA)}; a SAFE folder has one of them: fetch the product again")
    product = read_xml(found[0])
    granules = sorted(file.parent for file in folder.glob("GRANULE/*/MTD_TL.xml"))
    if not granules:
        raise InputError(f"{folder}: has no GRANULE/*/MTD_TL.xml; it holds time and angles: fetch the product again")
    return [_scene(found[0], product, granule, granule.name if len(granules) > 1 else "") for granule in granules]


def _scene(metadata: pathlib.Path, product: ElementTree.Element, granule: pathlib.Path, suffix: str) -> Entry:
    sensor = _METADATA[metadata.name]
    images, scl = _images(granule, sensor)
    if not images:
        raise InputError(f"{granule / 'IMG_DATA'}: has no image of a band (as *_B04_10m.jp2, *_B04.jp2); fetch the product again")
    quantification = needed(product, "QUANTIFICATION_VALUE" if sensor == "sentinel2_l1c" else "BOA_QUANTIFICATION_VALUE", metadata)
    if not number(quantification):
        raise InputError(f"{metadata}: quantification value {quantification!r} is no number above 0")
    tile_file = granule / "MTD_TL.xml"
    tile = read_xml(tile_file)
    sun, views = tile.find(".//{*}Mean_Sun_Angle"), tile.findall(".//{*}Mean_Viewing_Incidence_Angle")
    zeniths = [float(needed(view, "ZENITH_ANGLE", tile_file)) for view in views]
    folder = metadata.parent
    name = (
        folder.name.removesuffix(".SAFE")
        if _FOLDER.fullmatch(folder.name)
        else needed(product, "PRODUCT_URI", metadata).removesuffix(".SAFE")
    )
    return without_none(
        id=f"{name}_{suffix}" if suffix else name,
        sensor=sensor,
        acquired_utc=needed(tile, "SENSING_TIME", tile_file),
        **_baseline(metadata, product, name, list(images), sensor),
        scale=1 / float(quantification),
        offset=0.0,
        nodata=_nodata(product),
        sun_elevation_deg=None if sun is None else elevation(xml_text(sun, "ZENITH_ANGLE")),
        sun_azimuth_deg=None if sun is None else number(xml_text(sun, "AZIMUTH_ANGLE")),
        incidence_deg=sum(zeniths) / len(zeniths) if zeniths else None,
        view_azimuth_deg=mean_azimuth([float(needed(view, "AZIMUTH_ANGLE", tile_file)) for view in views]),
        cloud_percent=percent(xml_text(product, "Cloud_Coverage_Assessment")),
        bands={band: {"file": str(file), "index": 1} for band, file in images.items()},
        mask=scl and {"file": str(scl), "invalid": SCL_INVALID},
    )


def _images(granule: pathlib.Path, sensor: str) -> tuple[dict[str, pathlib.Path], pathlib.Path | None]:
    """The file of each band whose pixels are nearest to the native ones, and the scene classification."""
    bands = get_sensor(sensor).bands
    found: dict[str, tuple[float, pathlib.Path]] = {}
    for file in sorted((granule / "IMG_DATA").rglob("*")):
        match = _IMAGE.fullmatch(file.name)
        if match is None or (match[1] not in bands and match[1] != "SCL"):
            continue
        native = 20.0 if match[1] == "SCL" else bands[match[1]].gsd_m
        candidate = (abs(float(match[2] or native) - native), file)
        found[match[1]] = min(candidate, found.get(match[1], candidate))
    scl = found.pop("SCL", None)
    return {band: found[band][1] for band in bands if band in found}, scl and scl[1]


def _nodata(product: ElementTree.Element) -> float | None:
    for special in product.iterfind(".//{*}Special_Values"):
        if xml_text(special, "SPECIAL_VALUE_TEXT") == "NODATA":
            return number(xml_text(special, "SPECIAL_VALUE_INDEX"))
    return None


def _baseline(metadata: pathlib.Path, product: ElementTree.Element, name: str, bands: list[str], sensor: str) -> Entry:
    """`processing_baseline` and `baseline_offset_dn`, which agree."""
    fix = "fetch the product again, or describe it in a scenes.yaml with the baseline_offset_dn that its pixels have"
    baseline = needed(product, "PROCESSING_BASELINE", metadata)
    in_name = re.search(r"_N(\d\d)(\d\d)_", name)
    if in_name and f"{in_name[1]}.{in_name[2]}" != baseline:
        raise InputError(f"{metadata}: PROCESSING_BASELINE is {baseline}, the product's name says {in_name[1]}.{in_name[2]}; {fix}")
    tag = "RADIO_ADD_OFFSET" if sensor == "sentinel2_l1c" else "BOA_ADD_OFFSET"
    stated = {element.get("band_id"): number(element.text) for element in product.iterfind(f".//{{*}}{tag}")}
    has_offset = (number(baseline.split(".")[0]) or 0) >= 4
    if has_offset != bool(stated):
        raise InputError(f"{metadata}: PROCESSING_BASELINE is {baseline} and there is {'' if stated else 'no '}{tag}; {fix}")
    if not stated:
        return {"processing_baseline": baseline, "baseline_offset_dn": 0}
    offsets = {band: stated.get(str(_BAND_IDS.index(band))) for band in bands}
    without = [band for band, offset in offsets.items() if offset is None]
    if without:
        raise InputError(f"{metadata}: has no {tag} of band {without[0]} (band_id {_BAND_IDS.index(without[0])}); {fix}")
    if set(offsets.values()) != {-1000.0}:
        raise InputError(f"{metadata}: {tag} is {offsets}; expected -1000 for every band of baseline {baseline}; {fix}")
    return {"processing_baseline": baseline, "baseline_offset_dn": -1000}
