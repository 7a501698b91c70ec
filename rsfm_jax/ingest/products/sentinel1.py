"""Sentinel-1 backscatter: terrain-corrected GeoTIFFs in decibels, known by their names; and SAFE folders, which are refused.

A GRD product holds amplitudes on the radar's own grid. Ingest neither calibrates nor corrects for terrain: it says what is missing.
Source: Sentinel-1 Product Specification S1-RS-MDA-52-7441; the naming schemes of pyroSAR and of ASF HyP3 (RTC product guide).
"""

from collections.abc import Sequence
import datetime
import pathlib
import re

from rsfm_jax.errors import InputError
from rsfm_jax.ingest.products.product import Entry, Product, read_xml, xml_text

_SAFE = re.compile(r"S1[A-D]_(?:IW|EW|WV|S\d)_(?:GRD|SLC|OCN|RAW).*\.SAFE")
_NAMES = (  # the part before and after the polarisation name one acquisition and its processing
    re.compile(r"(?P<scene>S1[A-D]_+(?:IW|EW|S\d)_+[AD]_(?P<time>\d{8}T\d{6}))_(?P<band>VV|VH|HH|HV)_(?P<steps>.+)"),
    re.compile(
        r"(?P<scene>S1[A-D]_(?:IW|EW)_(?P<time>\d{8}T\d{6})_[DS][VH][POR]_RTC\d\d_[GS]_(?P<steps>\w{6})_\w{4})_(?P<band>VV|VH|HH|HV)"
    ),
)
_TO_DB = "write 10 * log10(power), or 20 * log10(amplitude), and end the names in _db.tif; or describe the files in a scenes.yaml"


def _match(file: pathlib.Path) -> re.Match[str] | None:
    if file.suffix.lower() not in (".tif", ".tiff"):
        return None
    return next((match for name in _NAMES if (match := name.fullmatch(file.stem))), None)


def find(files: Sequence[pathlib.Path]) -> list[Product]:
    """SAFE folders, and terrain-corrected GeoTIFFs of one acquisition and processing."""
    folders = sorted({parent for file in files for parent in file.parents if _SAFE.fullmatch(parent.name)})
    products = [Product(folder, frozenset(file for file in files if folder in file.parents)) for folder in folders]
    groups: dict[tuple[pathlib.Path, str, str], list[pathlib.Path]] = {}
    for file in files:
        if (match := _match(file)) and not any(folder in file.parents for folder in folders):
            groups.setdefault((file.parent, match["scene"], match["steps"]), []).append(file)
    return products + [Product(min(of_one), frozenset(of_one)) for of_one in groups.values()]


def read(path: pathlib.Path) -> list[Entry]:
    """The scene of one acquisition.

    Args:
      path: A GeoTIFF named by its scheme, with other polarisations beside it; or a SAFE folder.

    Returns:
      One entry of `scenes.yaml`.

    Raises:
      InputError: a SAFE folder, or backscatter that is not in decibels.
    """
    if path.is_dir():
        raise InputError(_refusal(path))
    found = _match(path)
    if found is None:
        raise InputError(f"{path}: is not named like terrain-corrected backscatter (S1A__IW___A_YYYYMMDDTHHMMSS_VV_gamma0-rtc_db.tif)")
    steps = found["steps"]
    hyp3 = found.re is _NAMES[1]
    if (steps[1] != "d") if hyp3 else "db" not in re.split(r"[_-]", steps.lower()):
        unit = {"p": "power", "a": "amplitude"}.get(steps[1], "no decibels") if hyp3 else "no decibels (there is no 'db' in it)"
        raise InputError(f"{path}: the name says that it holds {unit}, and {found['band']} must be in dB: {_TO_DB}")
    bands = {}
    for file in sorted(path.parent.iterdir()):
        match = _match(file)
        if match and (match["scene"], match["steps"]) == (found["scene"], steps):
            bands[match["band"]] = {"file": str(file), "index": 1}
    name = found["scene"] if hyp3 else f"{found['scene']}_{steps}"
    time = datetime.datetime.strptime(found["time"], "%Y%m%dT%H%M%S").isoformat() + "Z"
    return [{"id": name, "sensor": "sentinel1_grd", "acquired_utc": time, "bands": bands}]


def _refusal(folder: pathlib.Path) -> str:
    """What a SAFE folder holds, and what must be done to it first."""
    found = []
    for file in sorted(folder.glob("annotation/*.xml")):
        root = read_xml(file)
        said = [xml_text(root, tag) for tag in ("polarisation", "startTime", "incidenceAngleMidSwath")]
        found.append(f"{said[0]} of {said[1]}, incidence angle {float(said[2] or 'nan'):.1f} degrees")
    kind = "GRD" if "_GRD" in folder.name else folder.name.split("_")[2]
    return (
        f"{folder}: a Sentinel-1 {kind} product ({'; '.join(found) or 'without annotation'}) holds uncalibrated values in the geometry of "
        "the radar, with ground control points and no grid; remove thermal noise, calibrate to gamma0, correct for terrain with a DEM and "
        "convert to dB (SNAP, pyroSAR, ASF HyP3 RTC), then give the GeoTIFFs as ..._VV_gamma0-rtc_db.tif or in a scenes.yaml"
    )
