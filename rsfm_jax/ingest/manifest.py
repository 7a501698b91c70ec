"""What happened to every scene and every image set: the rows of `manifest.jsonl`."""

from collections import Counter
import dataclasses
import functools
from typing import Any

from rasterio.crs import CRS

from rsfm_jax.ingest.raster import OpenScene
from rsfm_jax.ingest.sets import Member, candidates
from rsfm_jax.layouts import Layout


@dataclasses.dataclass
class Ledger:
    """What happened to every scene and set, in the order of `manifest.jsonl`."""

    rows: list[dict[str, Any]] = dataclasses.field(default_factory=list)

    def add(self, kind: str, **fields: Any) -> None:
        """Adds a row."""
        self.rows.append({"kind": kind, **fields})

    def counts(self, layout: str) -> dict[str, int]:
        """Kept sets of a layout by split."""
        return dict(Counter(row["split"] for row in self.rows if row["kind"] == "set" and row["layout"] == layout and row["kept"]))

    def rejections(self, layout: str) -> dict[str, int]:
        """Rejected sets of a layout by reason."""
        return dict(Counter(row["reason"] for row in self.rows if row["kind"] == "set" and row["layout"] == layout and not row["kept"]))


@functools.lru_cache
def crs_name(crs: CRS) -> str:
    """Name of a coordinate system: its code, or its definition; cached, for without a code it takes a search through all of them."""
    return crs.to_string()


def member_row(member: Member) -> dict[str, Any]:
    """What a set's row says of a member."""
    rect = member.rect
    return {"scene": member.scene.scene.id, "window": member.window, "rect_m": [rect.left, rect.bottom, rect.right, rect.top]}


def scene_rows(scenes: list[OpenScene], layouts: tuple[Layout, ...], ledger: Ledger) -> list[dict[str, Any]]:
    """A row for each scene: what was understood of it, in how many sets it is, and why if in none."""
    kept = [row for row in ledger.rows if row["kind"] == "set" and row["kept"]]
    used = Counter(scene for row in kept for scene in {member["scene"] for member in row["members"]})
    return [_scene_row(scene, layouts, used[scene.scene.id]) for scene in scenes]


def _scene_row(scene: OpenScene, layouts: tuple[Layout, ...], used: int) -> dict[str, Any]:
    reasons = [why for layout in layouts if (why := candidates(layout, [scene])[1].get(scene.scene.id))]
    wanted = any(slot.sensor == scene.scene.sensor.name for layout in layouts for slot in layout.slots)
    reason = None
    if not used:
        reason = reasons[0] if reasons else "no set with it was kept" if wanted else "no layout has a slot for its sensor"
    return {
        "kind": "scene",
        "id": scene.scene.id,
        "sensor": scene.scene.sensor.name,
        "acquired_utc": scene.scene.acquired_utc.isoformat() if scene.scene.acquired_utc else "unknown",
        "crs": crs_name(scene.crs),
        "bands": {
            name: {
                "file": str(band.source.path),
                "index": band.index,
                "dtype": band.dtype,
                "gsd_m": band.gsd_m if scene.metric else None,
                "scale": band.scale,
                "offset": band.offset,
                "nodata": band.nodata,
                "nodata_from": band.nodata_from,
            }
            for name, band in scene.bands.items()
        },
        "sets": used,
        "reason": reason,
    }


def why_none(layouts: tuple[Layout, ...], ledger: Ledger) -> str:
    """Why no set was kept at all, in one line."""
    parts = []
    for layout in layouts:
        rejected = ", ".join(f"{count} x {reason}" for reason, count in ledger.rejections(layout.name).items())
        parts.append(f"layout {layout.name!r}: {rejected or 'its members share no ground large enough for a chip'}")
    scenes = [f"scene {row['id']!r}: {row['reason']}" for row in ledger.rows if row["kind"] == "scene"]
    return "; ".join(parts + scenes[:5])


def unused_bands(scenes: list[OpenScene], layouts: list[Layout]) -> dict[str, list[str]]:
    """Bands that scenes have and no layout reads, by sensor."""
    read = {(slot.sensor, band) for layout in layouts for slot in layout.slots for band in slot.bands}
    unused: dict[str, list[str]] = {}
    for scene in scenes:
        sensor = scene.scene.sensor.name
        for band in scene.bands:
            if (sensor, band) not in read and band not in unused.setdefault(sensor, []):
                unused[sensor].append(band)
    return {sensor: bands for sensor, bands in unused.items() if bands}
