"""Maxar products: panchromatic and multispectral images with their IMD file. Each image is one scene; a pair is two, on shared ground.

Digital numbers stay as they are: the absolute calibration differs by scene and the registered sensors count in digital numbers.
Source: Maxar/DigitalGlobe "Imagery Support Data (ISD) documentation" (IMD and TIL).
"""

from collections.abc import Sequence
import pathlib
import re

from rsfm_jax.errors import InputError
from rsfm_jax.ingest.products.product import Entry, Product, azimuth, number, percent, without_none
from rsfm_jax.sensors import get_sensor

_SATELLITES = {"WV02": "worldview2", "WV03": "worldview3", "GE01": "geoeye1"}
_IMAGES = (".tif", ".tiff", ".jp2", ".ntf")
_EIGHT_BANDS = {"N": "N1"}  # the IMD calls the first of two near-infrared bands N


def find(files: Sequence[pathlib.Path]) -> list[Product]:
    """IMD files with the images of their TIL, or of their own name."""
    products = []
    for file in files:
        if file.suffix.lower() == ".imd":
            beside = [other for other in files if other.parent == file.parent]
            named = [other for other in beside if other.stem.upper() == file.stem.upper()]
            products.append(Product(file, frozenset([file, *named, *_images(file)]).intersection(files)))
    return products


def _images(path: pathlib.Path) -> list[pathlib.Path]:
    beside = sorted(path.parent.iterdir())
    til = next((file for file in beside if file.suffix.lower() == ".til" and file.stem.upper() == path.stem.upper()), None)
    if til is not None:
        return [path.parent / name for name in re.findall(r'filename\s*=\s*"([^"]+)"', til.read_text(errors="replace"))]
    return [file for file in beside if file.stem.upper() == path.stem.upper() and file.suffix.lower() in _IMAGES]


def read(path: pathlib.Path) -> list[Entry]:
    """The scenes of an image, one for each of its tiles.

    Args:
      path: The IMD file.

    Returns:
      Entries of `scenes.yaml`.

    Raises:
      InputError: an unknown satellite or band, no time, or no image.
    """
    top, bands = _parse(path)
    satellite = top.get("satId", "")
    if satellite not in _SATELLITES:
        raise InputError(
            f"{path}: satId is {satellite or 'missing'}; known are {', '.join(_SATELLITES)}: add a sensor, or use a scenes.yaml"
        )
    sensor = get_sensor(f"{_SATELLITES[satellite]}_{'pan' if bands == ['P'] else 'ms'}")
    names = [_EIGHT_BANDS.get(name, name) if name not in sensor.bands else name for name in bands]
    unknown = [name for name in names if name not in sensor.bands]
    if unknown or not names:
        raise InputError(
            f"{path}: group BAND_{unknown[0] if unknown else '...'} is not of {sensor.name} (it has {', '.join(sensor.bands)})"
        )
    time = top.get("firstLineTime") or top.get("TLCTime") or top.get("earliestAcqTime")
    if not time:
        raise InputError(f"{path}: has neither firstLineTime nor earliestAcqTime; add one, or describe the image in a scenes.yaml")
    images = _images(path)
    if not images:
        raise InputError(f"{path}: there is no image beside it (a .TIL that names them, or {path.stem}{_IMAGES[0].upper()})")
    cloud = number(top.get("cloudCover"))
    return [
        without_none(
            id=image.stem,
            sensor=sensor.name,
            acquired_utc=time,
            sun_elevation_deg=number(top.get("meanSunEl")),
            sun_azimuth_deg=azimuth(top.get("meanSunAz")),
            off_nadir_deg=number(top.get("meanOffNadirViewAngle")),
            view_azimuth_deg=azimuth(top.get("meanSatAz")),
            cloud_percent=None if cloud is None else percent(100 * cloud),
            bands={name: {"file": str(image), "index": i + 1} for i, name in enumerate(names)},
        )
        for image in images
    ]


def _parse(path: pathlib.Path) -> tuple[dict[str, str], list[str]]:
    """Every key with its first value, of any group but those of bands; and the names of the bands in their order."""
    values: dict[str, str] = {}
    bands = []
    inside_band = False
    for line in path.read_text(errors="replace").splitlines():
        key, _, value = (part.strip().strip(';"') for part in line.partition("="))
        if key == "BEGIN_GROUP":
            inside_band = value.startswith("BAND_")
            bands += [value.removeprefix("BAND_")] if inside_band else []
        elif not inside_band and value and key != "END_GROUP":
            values.setdefault(key, value)
    return values, bands
