"""`scenes.yaml`: what a folder of GeoTIFFs holds, read strictly.

A scene is one delivered product: a sensor, an acquisition time and, for each band, a file and the number of the band in it. The
description states what the files do not. For scale, offset and nodata the order is: `scenes.yaml`, the file's own tags, the sensor.
Nothing is guessed: what is missing and needed is an `InputError` that names the file, the scene and the field.
"""

import dataclasses
import datetime
import pathlib
import re
from typing import Any, Literal

from rsfm_jax.errors import InputError
from rsfm_jax.ingest import conditions
from rsfm_jax.ingest.conditions import Conditions, read_conditions
from rsfm_jax.ingest.fields import NUMBERS, WORDS, known_fields, load_yaml, read_date, read_index, read_number, read_word, refuse_open
from rsfm_jax.ingest.paths import gdal_path
from rsfm_jax.sensors import Band, Sensor, get_sensor

_SCENE_FIELDS = ("id", "sensor", "acquired_utc", "bands", *NUMBERS, *WORDS, "baseline_offset_dn", "processing_baseline", "mask")
_SCENE_FIELDS += conditions.FIELDS
_BAND_FIELDS = ("file", "index", *NUMBERS, *WORDS)
_MASK_FIELDS = ("file", "index", "invalid", "bits")


@dataclasses.dataclass(frozen=True)
class BandSource:
    """Where one band is, as GDAL opens it, and what `scenes.yaml` says about it; None means that it says nothing.

    A nodata of ``"none"`` says that every pixel is an observation. ``unit`` is that of a radar band after scale and offset, ``complex_as``
    what to make of complex numbers; both are ``"dB"``, ``"power"`` or ``"amplitude"``.
    """

    band: Band
    path: str
    index: int | None
    scale: float | None
    offset: float | None
    nodata: float | Literal["none"] | None
    unit: str | None = None
    complex_as: str | None = None


@dataclasses.dataclass(frozen=True)
class MaskSource:
    """A quality raster on the bands' ground.

    Attributes:
      path: As GDAL opens it.
      index: Number of its band, from 1.
      invalid: Values of pixels that are not valid observations.
      bits: Bits, counted from 0 at the least: a pixel with any of them set is not a valid observation either.
    """

    path: str
    index: int
    invalid: tuple[int, ...]
    bits: tuple[int, ...] = ()


@dataclasses.dataclass(frozen=True)
class Scene:
    """One delivered product as described.

    Attributes:
      id: Unique name.
      sensor: The registered sensor.
      acquired_utc: Acquisition time, or None when it was stated to be unknown.
      bands: Band sources by band name, in the order of the description.
      mask: A quality raster, or None.
      baseline_offset_dn: Added to the digital number before scaling (Sentinel-2 baseline 04.00: -1000).
      described_in: The `scenes.yaml`, or the product's own metadata, that it comes from.
      conditions: Sun, view and cloud, where stated.
    """

    id: str
    sensor: Sensor
    acquired_utc: datetime.datetime | None
    bands: dict[str, BandSource]
    mask: MaskSource | None
    baseline_offset_dn: float
    described_in: pathlib.Path
    conditions: Conditions = Conditions()


def check_unique(scenes: list[Scene]) -> None:
    """Raises `InputError` when two scenes have one id, naming both places."""
    seen: dict[str, Scene] = {}
    for scene in scenes:
        if scene.id in seen:
            raise InputError(
                f"{scene.described_in}: scene id {scene.id!r} is used twice (also in {seen[scene.id].described_in}); rename one"
            )
        seen[scene.id] = scene


def read_file(file: pathlib.Path) -> list[Scene]:
    """The scenes of one `scenes.yaml`; raises `InputError` for anything wrong in it."""
    content = load_yaml(file)
    entries = content.get("scenes") if isinstance(content, dict) else None
    if not isinstance(entries, list) or not entries:
        raise InputError(f"{file}: field 'scenes' must be a list with at least one scene")
    known_fields(str(file), content, ("scenes",))
    return [read_scene(file, f"scenes[{i}]", entry, file.parent) for i, entry in enumerate(entries)]


def read_scene(file: pathlib.Path, place: str, entry: Any, root: pathlib.Path) -> Scene:
    """Reads the description of one scene.

    Args:
      file: Where it stands, for messages.
      place: Where in that file, for messages about a scene without an id.
      entry: The fields of a scene, as YAML gives them.
      root: Folder that the scene's files are relative to.

    Returns:
      The scene.

    Raises:
      InputError: anything wrong in the description.
    """
    where = f"{file}: {place}"
    known_fields(where, entry, _SCENE_FIELDS)
    if not entry.get("id"):
        raise InputError(f"{where}: field 'id' is missing; give the scene a unique name")
    where = f"{file}: scene {str(entry['id'])!r}"
    refuse_open(where, entry)
    if "sensor" not in entry:
        raise InputError(f"{where}: field 'sensor' is missing; name one of rsfm_jax/sensors.py")
    try:
        sensor = get_sensor(str(entry["sensor"]))
    except InputError as error:
        raise InputError(f"{where}: {error}") from None
    described = entry.get("bands")
    if not isinstance(described, dict) or not described:
        raise InputError(f"{where}: field 'bands' must map band names to files, as {{B04: red.tif}}")
    return Scene(
        id=str(entry["id"]),
        sensor=sensor,
        acquired_utc=read_date(where, entry),
        bands={str(name): _read_band(where, root, sensor, str(name), band, entry) for name, band in described.items()},
        mask=_read_mask(where, root, entry.get("mask")),
        baseline_offset_dn=_read_baseline_offset(where, sensor, entry),
        described_in=file,
        conditions=read_conditions(where, entry),
    )


def _read_band(where: str, root: pathlib.Path, sensor: Sensor, name: str, described: Any, entry: dict[str, Any]) -> BandSource:
    where = f"{where}, band {name!r}"
    try:
        band = sensor.band(name)
    except InputError as error:
        raise InputError(f"{where}: {error}") from None
    described = {"file": described} if isinstance(described, str) else described
    known_fields(where, described, _BAND_FIELDS)
    if not isinstance(described.get("file"), str):
        raise InputError(f"{where}: field 'file' is missing")
    merged = {field: described.get(field, entry.get(field)) for field in (*NUMBERS, *WORDS)}
    return BandSource(
        band,
        gdal_path(where, root, described["file"]),
        read_index(where, described.get("index")),
        scale=read_number(where, "scale", merged["scale"]),
        offset=read_number(where, "offset", merged["offset"]),
        nodata="none" if merged["nodata"] == "none" else read_number(where, "nodata", merged["nodata"]),
        unit=read_word(where, "unit", merged["unit"]),
        complex_as=read_word(where, "complex", merged["complex"]),
    )


def _read_mask(where: str, root: pathlib.Path, described: Any) -> MaskSource | None:
    if described is None:
        return None
    where = f"{where}, mask"
    known_fields(where, described, _MASK_FIELDS)
    invalid, bits = (described.get(field, []) for field in ("invalid", "bits"))
    numbers = isinstance(invalid, list) and isinstance(bits, list) and all(isinstance(v, int) for v in invalid + bits)
    if not isinstance(described.get("file"), str) or not numbers or not invalid + bits:
        raise InputError(
            f"{where}: needs 'file' and 'invalid', a list of the whole numbers that mean 'not a valid observation', "
            "or 'bits', a list of the bits (from 0) of which each means that"
        )
    if not all(0 <= bit < 32 for bit in bits):
        raise InputError(f"{where}: bits={bits} must be from 0 to 31")
    path = gdal_path(where, root, described["file"])
    return MaskSource(path, read_index(where, described.get("index")) or 1, tuple(invalid), tuple(bits))


def _read_baseline_offset(where: str, sensor: Sensor, entry: dict[str, Any]) -> float:
    stated = read_number(where, "baseline_offset_dn", entry.get("baseline_offset_dn"))
    baseline = entry.get("processing_baseline")
    if not sensor.needs_baseline_offset:
        if stated is not None or baseline is not None:
            raise InputError(
                f"{where}: baseline_offset_dn and processing_baseline are for Sentinel-2 level 1C and 2A, not for {sensor.name}"
            )
        return 0.0
    if stated not in (None, 0.0, -1000.0):
        raise InputError(f"{where}: baseline_offset_dn={stated:g} must be 0 (before baseline 04.00) or -1000 (from it on)")
    if baseline is not None:
        match = re.fullmatch(r"N?(\d{1,2})\.\d{1,2}|N?(\d\d)\d\d", str(baseline))
        if match is None:
            raise InputError(f"{where}: processing_baseline={baseline!r} must look like '04.00', in quotes, or like the name's N0400")
        implied = -1000.0 if int(match[1] or match[2]) >= 4 else 0.0
        if stated is not None and stated != implied:
            raise InputError(f"{where}: baseline_offset_dn={stated:g} contradicts processing_baseline={baseline} (which means {implied:g})")
        return implied
    if stated is None:
        raise InputError(
            f"{where}: a Sentinel-2 scene must state its baseline offset, the date does not tell it: add processing_baseline: 'NN.NN' "
            "(in the product's name and metadata), or baseline_offset_dn: 0 before baseline 04.00 and -1000 from it on"
        )
    return stated
