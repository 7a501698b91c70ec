"""Scenes that a folder holds twice: the same pixels under two names, or one acquisition processed twice.

Only scenes of one sensor with the same bands on the same grids are compared. What is read is bounded: nothing of a scene that is alone on
its grid, five small windows of one band to tell most apart, and both files as a whole only where these agree.

Products that overlap without sharing a grid, as neighbouring tiles of one orbit do, are not compared.
"""

import collections
from collections.abc import Callable, Hashable, Iterator
import dataclasses
import hashlib
from typing import Literal

from rsfm_jax.ingest.chips import ChipReader
from rsfm_jax.ingest.raster import OpenScene

_WINDOW = 32
_STRIP_PIXELS = 1 << 22  # read at once of each file when two are compared


@dataclasses.dataclass(frozen=True)
class Duplicate:
    """A scene that another one, which stands before it, makes superfluous or doubtful.

    Attributes:
      scene: Id of the later scene.
      of: Id of the earlier one.
      kind: ``"pixels"``: the same numbers with the same meaning in every band. ``"acquisition"``: other numbers of the same second, from
        another processing.
    """

    scene: str
    of: str
    kind: Literal["pixels", "acquisition"]


def find_duplicates(scenes: list[OpenScene], reader: ChipReader) -> list[Duplicate]:
    """Finds scenes that another scene repeats.

    Args:
      scenes: Open scenes.
      reader: Reads them.

    Returns:
      One entry for each such scene, in the order of the scenes; of several that are equal the first stands for all.
    """
    found: dict[str, Duplicate] = {}
    for group in _grouped(scenes, _meaning):
        prints: dict[bytes, list[OpenScene]] = collections.defaultdict(list)
        for scene in group:
            originals = prints[_fingerprint(scene, reader)]
            original = next((other for other in originals if _equal(other, scene, reader)), None)
            if original is None:
                originals.append(scene)
            else:
                found[scene.scene.id] = Duplicate(scene.scene.id, original.scene.id, "pixels")
    left = [scene for scene in scenes if scene.scene.id not in found and scene.scene.acquired_utc is not None]
    for group in _grouped(left, lambda scene: (_grids(scene), scene.scene.acquired_utc)):
        found |= {scene.scene.id: Duplicate(scene.scene.id, group[0].scene.id, "acquisition") for scene in group[1:]}
    return [found[scene.scene.id] for scene in scenes if scene.scene.id in found]


def _grouped(scenes: list[OpenScene], key: Callable[[OpenScene], Hashable]) -> Iterator[list[OpenScene]]:
    """Scenes of an equal key, where there are several."""
    groups: dict[Hashable, list[OpenScene]] = collections.defaultdict(list)
    for scene in scenes:
        groups[key(scene)].append(scene)
    yield from (group for group in groups.values() if len(group) > 1)


def _grids(scene: OpenScene) -> tuple:
    """Sensor, coordinate system and grids, the latter to a hundredth of a pixel."""
    rows = []
    for name in sorted(scene.bands):
        band = scene.bands[name]
        t, pixel = band.transform, band.gsd_m
        corner = tuple(round(100 * value / pixel) for value in (t.c, t.f))
        rows.append((name, band.height, band.width, corner, tuple(f"{value:.6g}" for value in (t.a, t.b, t.d, t.e))))
    return scene.scene.sensor.name, scene.crs.to_wkt(), tuple(rows)


def _meaning(scene: OpenScene) -> tuple:
    """Beside the grids, what the numbers mean."""
    bands = (scene.bands[name] for name in sorted(scene.bands))
    return _grids(scene), tuple((b.dtype, b.scale, b.offset, str(b.nodata), b.conversion) for b in bands)


def _fingerprint(scene: OpenScene, reader: ChipReader) -> bytes:
    """Digest of five small windows of the first band."""
    name = min(scene.bands)
    band = scene.bands[name]
    digest = hashlib.blake2b(digest_size=16)
    for down, right in ((0.5, 0.5), (0.25, 0.25), (0.25, 0.75), (0.75, 0.25), (0.75, 0.75)):
        row, column = int(down * band.height), int(right * band.width)
        height, width = min(_WINDOW, band.height - row), min(_WINDOW, band.width - column)
        digest.update(reader.read_stored(scene, name, column, row, width, height).tobytes())
    return digest.digest()


def _equal(one: OpenScene, other: OpenScene, reader: ChipReader) -> bool:
    """Whether all stored numbers of all bands are equal, to the bit; stops at the first strip that differs."""
    for name, band in one.bands.items():
        twin = other.bands[name]
        if (band.source.path, band.index) == (twin.source.path, twin.index):
            continue
        rows = max(1, _STRIP_PIXELS // band.width)
        for row in range(0, band.height, rows):
            where = (0, row, band.width, min(rows, band.height - row))
            if reader.read_stored(one, name, *where).tobytes() != reader.read_stored(other, name, *where).tobytes():
                return False
    return True
