"""Landsat products of Collections 1 and 2, known by their names, with their metadata file (MTL) as JSON, XML or text where it is there.

Without an MTL the sensor's own scaling holds, which is the same for all products of a collection. TM and ETM+ level 1 stay digital numbers.
Source: Landsat Collection 2 Data Format Control Books LSDS-1822, LSDS-1619, LSDS-1618 and LSDS-1415; Collection 1 quality band LSDS-1873.
"""

from collections.abc import Sequence
import datetime
import json
import pathlib
import re

from rsfm_jax.errors import InputError
from rsfm_jax.ingest.products.product import Entry, Product, azimuth, by_name, number, percent, read_xml, siblings, without_none
from rsfm_jax.sensors import Band, get_sensor

_NAME = re.compile(
    r"(L[COTEM]0\d_L[12][A-Z]{2}_\d{6}_\d{8}_\d{8}_0[12]_(?:RT|T1|T2|A1|A2))_(.+)\.(?:tiff?|json|txt|xml|jpe?g|png|html)", re.I
)
_SENSORS = {"LT04": "landsat4", "LT05": "landsat5", "LE07": "landsat7", "LC08": "landsat8", "LC09": "landsat9"}
# Collection 2: fill, dilated cloud, cirrus, cloud, cloud shadow. Collection 1: fill, occlusion or dropped pixel, cloud, the upper bits
# of the confidences of cloud shadow and of cirrus, which are set from medium on.
QA_BITS = {"QA_PIXEL": [0, 1, 2, 3, 4], "BQA": [0, 1, 4, 8, 12]}
_MTL_SUFFIXES = (".json", ".xml", ".txt")


def find(files: Sequence[pathlib.Path]) -> list[Product]:
    """Files that share a product's name in one folder."""
    products = []
    for of_one in by_name(files, _NAME).values():
        metadata = _metadata_file(of_one)
        products.append(Product(metadata or min(of_one), frozenset(of_one)))
    return products


def _metadata_file(files: Sequence[pathlib.Path]) -> pathlib.Path | None:
    candidates = [file for file in files if file.stem.upper().endswith("_MTL") and file.suffix.lower() in _MTL_SUFFIXES]
    return min(candidates, key=lambda file: _MTL_SUFFIXES.index(file.suffix.lower()), default=None)


def read(path: pathlib.Path) -> list[Entry]:
    """The scene of a product.

    Args:
      path: One of its files.

    Returns:
      One entry of `scenes.yaml`.

    Raises:
      InputError: an unknown satellite, no band, or an MTL that is broken or another product's.
    """
    files = siblings(path, _NAME)
    parts = {}
    for file in files:
        match = _NAME.fullmatch(file.name)
        if match and file.suffix.lower() in (".tif", ".tiff"):
            parts[match[2].upper()] = file
    name = _NAME.fullmatch(path.name)[1]  # pyright: ignore[reportOptionalSubscript] - siblings has matched it
    platform, level = name[:4].upper(), int(name[6])
    if platform not in _SENSORS:
        raise InputError(f"{path}: Landsat products of {platform} are not supported (only {', '.join(_SENSORS)})")
    sensor = get_sensor(f"{_SENSORS[platform]}_l{level}")
    prefix = "SR_" if level == 2 else ""
    bands = {band: parts[part] for band in sensor.bands if (part := band if band.startswith("ST_") else prefix + band) in parts}
    if not bands:
        raise InputError(
            f"{path}: none of the product's files is a band of {sensor.name} (seen: {', '.join(parts) or 'no GeoTIFF'}); "
            "describe them in a scenes.yaml"
        )
    metadata = _metadata_file(files)
    mtl = read_mtl(metadata) if metadata else {}
    quality = next((part for part in QA_BITS if part in parts), None)
    described = {band: {"file": str(file), "index": 1} for band, file in bands.items()}
    if metadata:
        for band in described:
            described[band] |= _scaling(metadata, mtl, sensor.bands[band], level)
    return [
        without_none(
            id=name,
            sensor=sensor.name,
            bands=described,
            mask=quality and {"file": str(parts[quality]), "bits": QA_BITS[quality]},
            **(_from_mtl(metadata, mtl, name) if metadata else {"acquired_utc": _date(name)}),
        )
    ]


def _date(name: str) -> str:
    digits = name.split("_")[3]
    return f"{digits[:4]}-{digits[4:6]}-{digits[6:]}"


def read_mtl(path: pathlib.Path) -> dict[str, dict[str, str]]:
    """The groups of an MTL file, by name.

    Args:
      path: The file, JSON, XML or text.

    Returns:
      For each group its keys and values. Keys repeat between groups: level 2 files hold level 1 factors too.

    Raises:
      InputError: the file does not parse.
    """
    if path.suffix.lower() == ".xml":
        groups = {group.tag: {item.tag: (item.text or "").strip() for item in group} for group in read_xml(path)}
    elif path.suffix.lower() == ".json":
        try:
            content = json.loads(path.read_text())
            groups = {name: {k: str(v) for k, v in group.items()} for name, group in next(iter(content.values())).items()}
        except (ValueError, AttributeError, StopIteration) as error:
            raise InputError(f"{path}: not a valid MTL ({error}); fetch it again") from None
    else:
        groups = _mtl_of_text(path.read_text(errors="replace"))
    if "IMAGE_ATTRIBUTES" not in groups:
        raise InputError(f"{path}: has no group IMAGE_ATTRIBUTES; is it a Landsat MTL, complete?")
    return groups


def _mtl_of_text(text: str) -> dict[str, dict[str, str]]:
    groups: dict[str, dict[str, str]] = {}
    group = ""
    for line in text.splitlines():
        key, _, value = (part.strip() for part in line.partition("="))
        if key == "GROUP":
            group = value
        elif value and key != "END_GROUP":
            groups.setdefault(group, {})[key] = value.strip('"')
    return groups


def _scaling(path: pathlib.Path, mtl: dict[str, dict[str, str]], band: Band, level: int) -> Entry:
    """Scale and offset of a band, from the group of the product's own level."""
    suffix = band.name if band.unit == "kelvin" else band.name.removeprefix("B")
    if band.unit == "reflectance":
        names = ("LEVEL2_SURFACE_REFLECTANCE_PARAMETERS",) if level == 2 else ("LEVEL1_RADIOMETRIC_RESCALING", "RADIOMETRIC_RESCALING")
        quantity = "REFLECTANCE"
    elif band.unit == "kelvin":
        names, quantity = ("LEVEL2_SURFACE_TEMPERATURE_PARAMETERS",), "TEMPERATURE"
    else:
        return {}
    group = next((mtl[name] for name in names if name in mtl), {})
    keys = f"{quantity}_MULT_BAND_{suffix}", f"{quantity}_ADD_BAND_{suffix}"
    scale, offset = (number(group.get(key)) for key in keys)
    if scale is None or offset is None:
        raise InputError(f"{path}: group {names[0]} has no number for {keys[0]} and {keys[1]}; fetch the MTL of this product")
    return {"scale": scale, "offset": offset}


def _from_mtl(path: pathlib.Path, mtl: dict[str, dict[str, str]], name: str) -> Entry:
    attributes = mtl["IMAGE_ATTRIBUTES"] | {
        k: v for k, v in mtl.get("PRODUCT_METADATA", {}).items() if k in ("DATE_ACQUIRED", "SCENE_CENTER_TIME")
    }
    said = next(
        (
            mtl[group]["LANDSAT_PRODUCT_ID"]
            for group in ("PRODUCT_CONTENTS", "METADATA_FILE_INFO")
            if "LANDSAT_PRODUCT_ID" in mtl.get(group, {})
        ),
        name,
    )
    if said.upper() != name.upper():
        raise InputError(f"{path}: LANDSAT_PRODUCT_ID is {said}, the files are named {name}; put the product's own MTL beside its files")
    date, time = attributes.get("DATE_ACQUIRED", _date(name)), attributes.get("SCENE_CENTER_TIME")
    if date != _date(name):
        raise InputError(f"{path}: DATE_ACQUIRED is {date}, the product's name says {_date(name)}; fetch the product again")
    acquired = f"{date}T{time}" if time else date
    try:
        datetime.datetime.fromisoformat(acquired)
    except ValueError:
        raise InputError(f"{path}: SCENE_CENTER_TIME={time!r} does not parse; expected HH:MM:SSZ") from None
    roll = number(attributes.get("ROLL_ANGLE"))
    return without_none(
        acquired_utc=acquired,
        sun_elevation_deg=number(attributes.get("SUN_ELEVATION")),
        sun_azimuth_deg=azimuth(attributes.get("SUN_AZIMUTH")),
        off_nadir_deg=None if roll is None else abs(roll),
        cloud_percent=percent(attributes.get("CLOUD_COVER")),
    )
