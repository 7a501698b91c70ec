"""What happened to every scene and every image set: the rows of `manifest.jsonl`."""

import dataclasses
import functools
from typing import Any

from rasterio.crs import CRS

from rsfm_jax.ingest.duplicates import Duplicate
from rsfm_jax.ingest.raster import OpenScene
from rsfm_jax.ingest.scenes import Scene
from rsfm_jax.ingest.sets import Member, PlannedSet, candidates
from rsfm_jax.ingest.tally import Tally
from rsfm_jax.layouts import Layout

BROKEN = "cannot be read"


@functools.lru_cache
def crs_name(crs: CRS) -> str:
    """Name of a coordinate system: its code, or its definition; cached, for without a code it takes a search through all of them."""
    return crs.to_string()


def member_row(member: Member) -> dict[str, Any]:
    """What a set's row says of a member."""
    rect = member.rect
    row = {"scene": member.scene.scene.id, "window": member.window, "rect_m": [rect.left, rect.bottom, rect.right, rect.top]}
    return row | ({} if member.minus is None else {"minus": member.minus.scene.id})


def set_row(plan: PlannedSet, reason: str | None = None, **more: Any) -> dict[str, Any]:
    """A row for an image set: its members, and why if it was rejected."""
    row = {
        "kind": "set",
        "layout": plan.layout.name,
        "key": plan.key,
        "split": plan.split,
        "members": [member_row(member) for member in plan.members],
        "lonlat_deg": plan.footprint_deg.round(7).tolist(),
        "kept": reason is None,
    }
    return row if reason is None else row | {"reason": reason} | more


@dataclasses.dataclass(frozen=True)
class Problems:
    """What no image set could come from.

    Attributes:
      unrecognised: Files, as ``PATH: reason``.
      products: What is wrong with products and items that no scene could be made of.
      scenes: Scenes whose files cannot be read, with what is wrong.
      duplicates: Scenes that repeat another one; those of equal pixels are left out.
    """

    unrecognised: list[str]
    products: list[str]
    scenes: list[tuple[Scene, str]]
    duplicates: list[Duplicate]

    def without_duplicates(self, scenes: list[OpenScene]) -> list[OpenScene]:
        """The scenes but for those whose pixels another one has."""
        repeated = {found.scene for found in self.duplicates if found.kind == "pixels"}
        return [scene for scene in scenes if scene.scene.id not in repeated]


def scene_rows(scenes: list[OpenScene], problems: Problems, layouts: tuple[Layout, ...], tally: Tally) -> list[dict[str, Any]]:
    """A row for each scene: what was understood of it, in how many sets it is, and why if in none; then what no scene came from."""
    twins = {found.scene: found for found in problems.duplicates}
    rows = [_scene_row(scene, layouts, tally, twins.get(scene.scene.id)) for scene in scenes]
    rows += [_said(scene) | {"sets": 0, "reason": BROKEN, "error": error} for scene, error in problems.scenes]
    rows += [{"kind": "product", "reason": BROKEN, "error": error} for error in problems.products]
    return rows + [{"kind": "file", "reason": "not recognised", "error": line} for line in problems.unrecognised]


def _said(scene: Scene) -> dict[str, Any]:
    """What a scene's row has of its description."""
    return {
        "kind": "scene",
        "id": scene.id,
        "sensor": scene.sensor.name,
        "acquired_utc": scene.acquired_utc.isoformat() if scene.acquired_utc else "unknown",
        **{name: value for name, value in dataclasses.asdict(scene.conditions).items() if value is not None},
    }


def _scene_row(scene: OpenScene, layouts: tuple[Layout, ...], tally: Tally, twin: Duplicate | None) -> dict[str, Any]:
    used, error = tally.used[scene.scene.id], tally.unreadable.get(scene.scene.id)
    return (
        _said(scene.scene)
        | {
            "crs": crs_name(scene.stated_crs),
            "bands": {
                name: {
                    "file": band.source.path,
                    "index": band.index,
                    "dtype": band.dtype,
                    "gsd_m": band.gsd_m if scene.metric else None,
                    "scale": band.scale,
                    "offset": band.offset,
                    "nodata": band.nodata,
                    "nodata_from": band.nodata_from,
                    "conversion": band.conversion.stated if band.conversion else None,
                }
                for name, band in scene.bands.items()
            },
            "sets": used,
            "reason": None if used else _why_unused(scene, layouts, tally, twin),
            "same_acquisition_as": twin.of if twin and twin.kind == "acquisition" else None,
        }
        | ({"error": error} if error else {})
    )


def _why_unused(scene: OpenScene, layouts: tuple[Layout, ...], tally: Tally, twin: Duplicate | None) -> str:
    if twin and twin.kind == "pixels":
        return f"duplicate of {twin.of}"
    if scene.scene.id in tally.unreadable:
        return BROKEN
    reasons = [why for layout in layouts if (why := candidates(layout, [scene])[1].get(scene.scene.id))]
    if reasons:
        return reasons[0]
    wanted = any(scene.scene.sensor.name in (slot.sensor, slot.minus) for layout in layouts for slot in layout.slots)
    return "no set with it was kept" if wanted else "no layout has a slot for its sensor"


def why_none(layouts: tuple[Layout, ...], tally: Tally, rows: list[dict[str, Any]]) -> str:
    """Why no set was kept at all, in one line; ``rows`` are those of the scenes."""
    parts = []
    for layout in layouts:
        rejected = ", ".join(f"{count} x {reason}" for reason, count in tally.rejections(layout.name).items())
        rejected = rejected or ", ".join(f"{count} x {reason}" for reason, count in tally.missed(layout.name).items())
        parts.append(f"layout {layout.name!r}: {rejected or 'its members share no ground large enough for a chip'}")
    scenes = [f"scene {row['id']!r}: {row.get('error', row['reason'])}" for row in rows if row["kind"] == "scene"]
    return "; ".join(parts + scenes[:5])


def unused_bands(scenes: list[OpenScene], layouts: list[Layout]) -> dict[str, list[str]]:
    """Bands that scenes have and no layout reads, by sensor."""
    read = {(slot.sensor, band) for layout in layouts for slot in layout.slots for band in slot.source_bands}
    read |= {(slot.minus, "elevation") for layout in layouts for slot in layout.slots if slot.minus}
    unused: dict[str, list[str]] = {}
    for scene in scenes:
        sensor = scene.scene.sensor.name
        for band in scene.bands:
            if (sensor, band) not in read and band not in unused.setdefault(sensor, []):
                unused[sensor].append(band)
    return {sensor: bands for sensor, bands in unused.items() if bands}
