"""NAIP quarter quads, known by their names: state's tile, quarter, zone, pixel size and date.

Source: USDA Farm Production and Conservation Business Center, "NAIP file naming convention".
"""

from collections.abc import Sequence
import pathlib
import re

from rsfm_jax.errors import InputError
from rsfm_jax.ingest.products.product import Entry, Product
from rsfm_jax.ingest.raster import reading

_NAME = re.compile(r"m_\d{7}_(?:ne|nw|se|sw)_\d{1,2}_\w{1,3}_(\d{4})(\d\d)(\d\d)(?:_\d{8})?\.(?:tiff?|jp2)", re.IGNORECASE)


def find(files: Sequence[pathlib.Path]) -> list[Product]:
    """Files named as quarter quads."""
    return [Product(file, frozenset([file])) for file in files if _NAME.fullmatch(file.name)]


def read(path: pathlib.Path) -> list[Entry]:
    """The scene of a quarter quad, of 3 (red, green, blue) or 4 bands (and near infrared).

    Args:
      path: The file.

    Returns:
      One entry of `scenes.yaml`.

    Raises:
      InputError: a file that cannot be read, or of another number of bands.
    """
    match = _NAME.fullmatch(path.name)
    if match is None:
        raise InputError(f"{path}: is not named like a NAIP quarter quad (m_1234567_ne_11_060_20200415.tif)")
    with reading(path, str(path)) as dataset:
        count = dataset.count
    if count not in (3, 4):
        raise InputError(f"{path}: has {count} bands; NAIP has 3 (R, G, B) or 4 (R, G, B, N)")
    bands = {name: {"file": str(path), "index": i + 1} for i, name in enumerate("RGBN"[:count])}
    return [{"id": path.stem, "sensor": "naip", "acquired_utc": "-".join(match.groups()), "bands": bands}]
