"""From a folder of scenes to a dataset folder, all or nothing.

The dataset is written beside its final place and moved there when it is whole:

    dataset.json     schema version, layouts, digital-number types, statistics, counts, digest
    manifest.jsonl   every scene, every image set kept, every one rejected with its reason
    records/         TFDS ArrayRecord, one builder config for each layout
"""

from collections.abc import Iterable
import dataclasses
import hashlib
import importlib.metadata
import itertools
import json
import pathlib
from typing import Any

import numpy as np

from rsfm_jax.config import IngestConfig, to_dict
from rsfm_jax.data.dataset import SCHEMA_VERSION
from rsfm_jax.errors import InputError
from rsfm_jax.ingest.builder import Example, write_layout
from rsfm_jax.ingest.chips import ChipReader
from rsfm_jax.ingest.draft import draft_layouts
from rsfm_jax.ingest.examples import ExampleMaker
from rsfm_jax.ingest.manifest import scene_rows, unused_bands, why_none
from rsfm_jax.ingest.raster import OpenScene, open_scene
from rsfm_jax.ingest.scenes import read_scenes
from rsfm_jax.ingest.sets import candidates, plan_sets
from rsfm_jax.layouts import Layout
from rsfm_jax.staging import check_free, new_folder


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
    check_free(out, "out")
    scenes = [open_scene(scene) for scene in read_scenes(scenes_dir)]
    layouts = config.layouts or draft_layouts(scenes)
    if not layouts:
        raise InputError(f"--scenes={scenes_dir}: every scene is smaller than 8 pixels; no layout can be drafted")
    with new_folder(out, "out") as folder:
        return _build(scenes, layouts, config, folder)


def _build(scenes: list[OpenScene], layouts: tuple[Layout, ...], config: IngestConfig, folder: pathlib.Path) -> dict[str, Any]:
    written = []
    with ChipReader() as reader:
        maker = ExampleMaker(config, reader)
        for layout in layouts:
            if _write_layout(layout, scenes, config, maker, folder):
                written.append(layout)
    ledger = maker.ledger
    ledger.rows[:0] = scene_rows(scenes, layouts, ledger)
    if not written:
        raise InputError(f"no image set could be built: {why_none(layouts, ledger)}")
    maker.ranges.check()
    units = {(s.scene.sensor.name, name): band.source.band.unit for s in scenes for name, band in s.bands.items()}
    described = [{**to_dict(layout), "dtypes": _dtypes(layout, scenes)} for layout in written]
    statistics = maker.statistics.to_dict(units)
    content = [json.dumps(described, sort_keys=True), json.dumps(statistics, sort_keys=True), *sorted(maker.digests)]
    summary = {
        "schema_version": SCHEMA_VERSION,
        "written_by": f"rsfm_jax {importlib.metadata.version('rsfm_jax')}",
        "ingest": to_dict(dataclasses.replace(config, layouts=())),
        "layouts": described,
        "sets": {layout.name: ledger.counts(layout.name) for layout in layouts},
        "rejected": {layout.name: ledger.rejections(layout.name) for layout in layouts},
        "unused_bands": unused_bands(scenes, written),
        "statistics": statistics,
        "digest": hashlib.sha256("".join(content).encode()).hexdigest(),
    }
    (folder / "manifest.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ledger.rows))
    (folder / "dataset.json").write_text(json.dumps(summary, indent=1) + "\n")
    return summary


def _write_layout(
    layout: Layout, scenes: list[OpenScene], config: IngestConfig, maker: ExampleMaker, folder: pathlib.Path
) -> dict[str, int]:
    planned = list(plan_sets(layout, scenes, config))
    for plan in planned:
        if plan.split is None:
            maker.ledger.add("set", layout=layout.name, key=plan.key, split=None, kept=False, reason="touches ground cells of both splits")
    dtypes = _dtypes(layout, scenes) if planned else []
    splits: dict[str, Iterable[Example]] = {}
    for split in ("train", "val"):
        examples = maker.examples([p for p in planned if p.split == split], dtypes)
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
    return maker.ledger.counts(layout.name)


def _dtypes(layout: Layout, scenes: list[OpenScene]) -> list[str]:
    """For each slot the type that holds the digital numbers of every scene that may fill it."""
    found, _ = candidates(layout, scenes)
    by_slot = {i: pool for numbers, pool in zip(layout.acquisitions(), found, strict=True) for i in numbers}
    return [
        str(np.result_type(*(scene.bands[name].dtype for scene in by_slot[i] for name in slot.bands)))
        for i, slot in enumerate(layout.slots)
    ]
