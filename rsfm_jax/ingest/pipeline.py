"""From a folder of scenes to a dataset folder, all or nothing.

The dataset is written beside its final place and moved there when it is whole:

    dataset.json     schema version, layouts, digital-number types, statistics, counts, digest
    manifest.jsonl   every scene, every image set kept, every one rejected with its reason
    records/         TFDS ArrayRecord, one builder config for each layout
"""

from collections import Counter
from collections.abc import Iterable, Iterator
import dataclasses
import functools
import hashlib
import importlib.metadata
import itertools
import json
import pathlib
import tempfile
from typing import Any

import numpy as np
from rasterio.crs import CRS

from rsfm_jax.config import IngestConfig, Layout, to_dict
from rsfm_jax.data.dataset import SCHEMA_VERSION
from rsfm_jax.errors import InputError
from rsfm_jax.geo import year_and_day
from rsfm_jax.ingest.builder import Example, write_layout
from rsfm_jax.ingest.chips import ChipReader
from rsfm_jax.ingest.draft import draft_layouts
from rsfm_jax.ingest.raster import OpenScene, open_scene
from rsfm_jax.ingest.scenes import read_scenes
from rsfm_jax.ingest.sets import Member, PlannedSet, candidates, plan_sets
from rsfm_jax.ingest.statistics import Statistics


@dataclasses.dataclass
class Ledger:
    """What happened to every scene and set, in the order of `manifest.jsonl`."""

    rows: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    digests: list[str] = dataclasses.field(default_factory=list)

    def add(self, kind: str, **fields: Any) -> None:
        """Adds a row."""
        self.rows.append({"kind": kind, **fields})

    def counts(self, layout: str) -> dict[str, int]:
        """Kept sets of a layout by split."""
        return dict(Counter(row["split"] for row in self.rows if row["kind"] == "set" and row["layout"] == layout and row["kept"]))

    def rejections(self, layout: str) -> dict[str, int]:
        """Rejected sets of a layout by reason."""
        return dict(Counter(row["reason"] for row in self.rows if row["kind"] == "set" and row["layout"] == layout and not row["kept"]))


def run_ingest(scenes_dir: pathlib.Path, out: pathlib.Path, config: IngestConfig) -> dict[str, Any]:
    """Builds a dataset folder.

    Args:
      scenes_dir: Folder with one or more `scenes.yaml`.
      out: The dataset folder to make; must not exist, or be empty.
      config: Layouts, split and thresholds.

    Returns:
      The content of `dataset.json`.

    Raises:
      InputError: anything wrong with the input; nothing is left at ``out``.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"--out={out}: already holds something; choose another folder, or delete it first")
    scenes = [open_scene(scene) for scene in read_scenes(scenes_dir)]
    layouts = config.layouts or draft_layouts(scenes)
    if not layouts:
        raise InputError(f"--scenes={scenes_dir}: every scene is smaller than 8 pixels; no layout can be drafted")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"--out={out}: cannot be made ({error.strerror}); choose another folder") from None
    with tempfile.TemporaryDirectory(prefix=f".{out.name}-unfinished-", dir=out.parent) as folder:
        unfinished = pathlib.Path(folder) / "dataset"
        unfinished.mkdir()
        summary = _build(scenes, layouts, config, unfinished)
        if out.exists():
            out.rmdir()
        unfinished.rename(out)
    return summary


def _build(scenes: list[OpenScene], layouts: tuple[Layout, ...], config: IngestConfig, folder: pathlib.Path) -> dict[str, Any]:
    ledger, statistics = Ledger(), Statistics()
    written = []
    with ChipReader() as reader:
        for layout in layouts:
            counts = _write_layout(layout, scenes, config, reader, ledger, statistics, folder)
            if counts:
                written.append(layout)
    ledger.rows[:0] = [_scene_row(scene, layouts, ledger) for scene in scenes]
    if not written:
        raise InputError(f"no image set could be built: {_why_none(layouts, ledger)}")
    units = {(s.scene.sensor.name, name): band.source.band.unit for s in scenes for name, band in s.bands.items()}
    summary = {
        "schema_version": SCHEMA_VERSION,
        "written_by": f"rsfm_jax {importlib.metadata.version('rsfm_jax')}",
        "ingest": to_dict(dataclasses.replace(config, layouts=())),
        "layouts": [{**to_dict(layout), "dtypes": _dtypes(layout, scenes)} for layout in written],
        "sets": {layout.name: ledger.counts(layout.name) for layout in layouts},
        "rejected": {layout.name: ledger.rejections(layout.name) for layout in layouts},
        "statistics": statistics.to_dict(units),
        "digest": hashlib.sha256("".join(sorted(ledger.digests)).encode()).hexdigest(),
    }
    (folder / "manifest.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ledger.rows))
    (folder / "dataset.json").write_text(json.dumps(summary, indent=1) + "\n")
    return summary


def _write_layout(
    layout: Layout,
    scenes: list[OpenScene],
    config: IngestConfig,
    reader: ChipReader,
    ledger: Ledger,
    statistics: Statistics,
    folder: pathlib.Path,
) -> dict[str, int]:
    planned = list(plan_sets(layout, scenes, config))
    for plan in planned:
        if plan.split is None:
            ledger.add("set", layout=layout.name, key=plan.key, split=None, kept=False, reason="touches ground cells of both splits")
    dtypes = _dtypes(layout, scenes) if planned else []
    splits: dict[str, Iterable[Example]] = {}
    for split in ("train", "val"):
        examples = _examples([p for p in planned if p.split == split], dtypes, config, reader, ledger, statistics)
        first = next(examples, None)  # TFDS cannot write an empty split
        if first is not None:
            splits[split] = itertools.chain([first], examples)
    if not splits:
        return {}
    if "train" not in splits:
        raise InputError(
            f"layout {layout.name!r}: all its image sets fall into the split 'val'; its ground is too small for ground cells of "
            f"{config.split_cell_m:g} m: set ingest.split_cell_m smaller or ingest.val_share to 0"
        )
    write_layout(layout, dtypes, splits, folder)
    return ledger.counts(layout.name)


def _dtypes(layout: Layout, scenes: list[OpenScene]) -> list[str]:
    """For each slot the type that holds the digital numbers of every scene that may fill it."""
    found, _ = candidates(layout, scenes)
    by_slot = {i: pool for numbers, pool in zip(layout.acquisitions(), found, strict=True) for i in numbers}
    return [
        str(np.result_type(*(scene.bands[name].dtype for scene in by_slot[i] for name in slot.bands)))
        for i, slot in enumerate(layout.slots)
    ]


def _examples(
    planned: list[PlannedSet], dtypes: list[str], config: IngestConfig, reader: ChipReader, ledger: Ledger, statistics: Statistics
) -> Iterator[Example]:
    for plan in planned:
        chips = [_read(reader, plan, member) for member in plan.members]
        row = {
            "layout": plan.layout.name,
            "key": plan.key,
            "split": plan.split,
            "members": [_member_row(member) for member in plan.members],
            "lonlat_deg": plan.footprint_deg.round(7).tolist(),
        }
        shares = [float(valid_HWC.mean()) for _, valid_HWC in chips]
        if min(shares) < config.min_valid_share:
            reason = f"a member has less than {config.min_valid_share:g} valid pixels"
            ledger.add("set", **row, kept=False, reason=reason, valid_shares=shares)
            continue
        chips = [(dn_HWC.astype(dtype, copy=False), valid_HWC) for (dn_HWC, valid_HWC), dtype in zip(chips, dtypes, strict=True)]
        example = _example(plan, chips)
        ledger.add("set", **row, kept=True)
        ledger.digests.append(_digest(example))
        if plan.split == "train":
            for i, (member, (dn_HWC, valid_HWC)) in enumerate(zip(plan.members, chips, strict=True)):
                physical_HWC = example[f"scale_{i}"] * dn_HWC.astype(np.float64) + example[f"offset_{i}"]
                statistics.add_chip(member.slot.sensor, tuple(member.slot.bands), physical_HWC, valid_HWC)
        yield plan.key, example


def _read(reader: ChipReader, plan: PlannedSet, member: Member) -> tuple[np.ndarray, np.ndarray]:
    slot = member.slot
    if member.window is not None:
        return reader.read_window(member.scene, slot.bands, *member.window, slot.pixels)
    return reader.read_resampled(member.scene, slot.bands, plan.crs, member.rect, slot.pixels, slot.resample)


def _member_row(member: Member) -> dict[str, Any]:
    rect = member.rect
    return {"scene": member.scene.scene.id, "window": member.window, "rect_m": [rect.left, rect.bottom, rect.right, rect.top]}


def _example(plan: PlannedSet, chips: list[tuple[np.ndarray, np.ndarray]]) -> dict[str, Any]:
    x, y = plan.members[0].rect.centre
    example: dict[str, Any] = {
        "key": plan.key,
        "crs": _crs_name(plan.crs),
        "centre_m": np.array([x, y]),
        "lonlat_deg": plan.footprint_deg,
    }
    for i, (member, (dn_HWC, valid_HWC)) in enumerate(zip(plan.members, chips, strict=True)):
        rect, pixels, rasters = member.rect, member.slot.pixels, [member.scene.bands[name] for name in member.slot.bands]
        example |= {
            f"pixels_{i}": dn_HWC,
            f"valid_{i}": np.packbits(valid_HWC),
            f"scale_{i}": np.array([raster.scale for raster in rasters]),
            f"offset_{i}": np.array([raster.offset for raster in rasters]),
            f"grid_m_{i}": np.array([rect.left - x, rect.top - y, rect.width_m / pixels, rect.height_m / pixels]),
            f"time_{i}": np.array(year_and_day(member.scene.scene.acquired_utc)),
            f"scene_{i}": member.scene.scene.id,
        }
    return example


@functools.lru_cache
def _crs_name(crs: CRS) -> str:
    return crs.to_string()  # for a CRS without a code, a search through all of them


def _digest(example: dict[str, Any]) -> str:
    digest = hashlib.sha256()
    for name in sorted(example):
        value = example[name]
        digest.update(name.encode() + (value.encode() if isinstance(value, str) else np.ascontiguousarray(value).tobytes()))
    return digest.hexdigest()


def _scene_row(scene: OpenScene, layouts: tuple[Layout, ...], ledger: Ledger) -> dict[str, Any]:
    kept = [row for row in ledger.rows if row["kind"] == "set" and row["kept"]]
    used = sum(any(member["scene"] == scene.scene.id for member in row["members"]) for row in kept)
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
        "crs": scene.crs.to_string(),
        "bands": {
            name: {
                "file": str(band.source.path),
                "index": band.source.index,
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


def _why_none(layouts: tuple[Layout, ...], ledger: Ledger) -> str:
    parts = []
    for layout in layouts:
        rejected = ", ".join(f"{count} x {reason}" for reason, count in ledger.rejections(layout.name).items())
        parts.append(f"layout {layout.name!r}: {rejected or 'its members share no ground large enough for a chip'}")
    scenes = [f"scene {row['id']!r}: {row['reason']}" for row in ledger.rows if row["kind"] == "scene"]
    return "; ".join(parts + scenes[:5])
