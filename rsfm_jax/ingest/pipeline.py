"""From a folder of scenes to a dataset folder, all or nothing, in steps that a restarted run does not repeat.

The dataset is written beside its final place and moved there when it is whole:

    dataset.json     schema version, layouts, digital-number types, statistics, counts, digest
    manifest.jsonl   every scene, every image set kept, every one rejected with its reason
    records/         TFDS ArrayRecord, one builder config for each layout

Until then `work/` beside them has what each task took and gave: scenes looked at, shards written.
"""

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
import dataclasses
import functools
import hashlib
import importlib.metadata
import json
import pathlib
from typing import Any

from etils import epath
import numpy as np

from rsfm_jax.config import IngestConfig, to_dict
from rsfm_jax.data.dataset import SCHEMA_VERSION
from rsfm_jax.errors import InputError
from rsfm_jax.ingest.builder import WrittenShard, gather_layout
from rsfm_jax.ingest.chips import ChipReader
from rsfm_jax.ingest.describe import find_inputs
from rsfm_jax.ingest.draft import draft_layouts
from rsfm_jax.ingest.duplicates import find_duplicates
from rsfm_jax.ingest.manifest import Problems, scene_rows, set_row, unused_bands, why_none
from rsfm_jax.ingest.opening import open_scenes
from rsfm_jax.ingest.raster import OpenScene
from rsfm_jax.ingest.scenes import Scene
from rsfm_jax.ingest.sets import PlannedSet, candidates, plan_sets
from rsfm_jax.ingest.shards import cut_shards, records_file, rows_file, write_shard
from rsfm_jax.ingest.tally import Tally
from rsfm_jax.ingest.tasks import is_done, put, result, run_tasks
from rsfm_jax.layouts import Layout
from rsfm_jax.sensors import get_sensor
from rsfm_jax.staging import check_free, resumable_folder

BOUNDARY = "touches ground cells of both splits"


@dataclasses.dataclass(frozen=True)
class How:
    """How a dataset is made; nothing of it changes what is in it, but for what is left out.

    Attributes:
      strict: Whether the first scene that cannot be read ends the run; else it is left out and named.
      beam_args: Options of Apache Beam; None works in this process.
      keep: Keys of the image sets to keep, all of which must be there; None for all.
    """

    strict: bool = False
    beam_args: Sequence[str] | None = None
    keep: Collection[str] | None = None


def run_ingest(scenes_dir: pathlib.Path, out: pathlib.Path, config: IngestConfig, how: How = How()) -> dict[str, Any]:
    """Builds a dataset folder.

    Args:
      scenes_dir: Folder with `scenes.yaml` or products that are known, or a STAC file.
      out: The dataset folder to make; must not exist, or be empty.
      config: Layouts, split and thresholds.
      how: Strictness, workers, which sets.

    Returns:
      The content of `dataset.json`.

    Raises:
      InputError: anything wrong with the input; nothing is left at ``out``.
    """
    check_free(out, "out")
    inputs = find_inputs(scenes_dir, how.strict)
    asked = [to_dict(config), how.strict, sorted(how.keep) if how.keep is not None else None]
    asked.append([_fingerprint(scene) for scene in inputs.scenes])
    with resumable_folder(out, "out", hashlib.sha256(json.dumps(asked).encode()).hexdigest()) as folder:
        work = epath.Path(folder) / "work"
        work.mkdir(exist_ok=True)
        scenes, broken = open_scenes(inputs.scenes, work, how.strict, how.beam_args)
        if not scenes:
            raise InputError(broken[0][1])
        with ChipReader() as reader:
            problems = Problems(inputs.unrecognised, inputs.broken, broken, find_duplicates(scenes, reader))
        layouts = config.layouts or draft_layouts(problems.without_duplicates(scenes))
        if not layouts:
            raise InputError(f"--scenes={scenes_dir}: every scene is smaller than 8 pixels; no layout can be drafted")
        summary = _build(scenes, problems, layouts, config, how, epath.Path(folder))
        work.rmtree()
        return summary


def _fingerprint(scene: Scene) -> list[Any]:
    """What a scene's description says, and sizes and times of its files, where they are on this machine."""
    files = [pathlib.Path(source.path) for source in scene.bands.values()] + ([pathlib.Path(scene.mask.path)] if scene.mask else [])
    stats = [file.stat() if file.exists() else None for file in files]
    return [repr(scene), [(stat.st_size, stat.st_mtime_ns) if stat else None for stat in stats]]


def _build(
    scenes: list[OpenScene], problems: Problems, layouts: tuple[Layout, ...], config: IngestConfig, how: How, folder: epath.Path
) -> dict[str, Any]:
    work, tally, looked_at = folder / "work", Tally(), scenes
    scenes = problems.without_duplicates(scenes)
    dtypes = {layout.name: _dtypes(layout, scenes) for layout in layouts}
    shards = {layout.name: _cut(layout, scenes, dtypes[layout.name], config, how, work, tally) for layout in layouts}
    if how.keep is not None and (missing := set(how.keep) - tally.planned):
        raise InputError(
            f"the curation keeps {len(missing)} of {len(how.keep)} image sets that these scenes and this config do not give, as "
            f"{min(missing)!r}; ingest the scenes it was made of, with the same config"
        )
    do = functools.partial(write_shard, folder=work, config=config, strict=how.strict)
    run_tasks(work, [name for of_layout in shards.values() for name in of_layout], do, how.beam_args)
    written = []
    for layout in layouts:
        files: dict[str, list[WrittenShard]] = {}
        for name, split in shards[layout.name].items():
            of_shard: Tally = result(work, name)
            tally.merge(of_shard)
            if count := of_shard.kept[layout.name, split]:
                files.setdefault(split, []).append(WrittenShard(records_file(work, name), count))
        if files and "train" not in files:
            raise InputError(
                f"layout {layout.name!r}: all its image sets fall into the split 'val'; its ground is too small for ground cells of "
                f"{config.split_cell_m:g} m: set ingest.split_cell_m smaller or ingest.val_share to 0"
            )
        if files:
            gather_layout(layout, dtypes[layout.name], files, folder)
            written.append(layout)
    rows = scene_rows(looked_at, problems, layouts, tally)
    if not written:
        raise InputError(f"no image set could be built: {why_none(layouts, tally, rows)}")
    tally.ranges.check()
    _write_manifest(rows, shards, work, folder / "manifest.jsonl")
    summary = _summary(scenes, problems, layouts, written, dtypes, config, tally)
    (folder / "dataset.json").write_text(json.dumps(summary, indent=1) + "\n")
    return summary


def _write_manifest(rows: list[dict[str, Any]], shards: dict[str, dict[str, str]], work: epath.Path, file: epath.Path) -> None:
    """Scenes, then the sets of each layout, shard by shard."""
    with file.open("w") as manifest:
        for row in rows:
            manifest.write(json.dumps(row) + "\n")
        for layout, names in shards.items():
            for name in (_boundary(layout), *names):
                manifest.write(rows_file(work, name).read_text())


def _summary(
    scenes: list[OpenScene],
    problems: Problems,
    layouts: tuple[Layout, ...],
    written: list[Layout],
    dtypes: dict[str, list[str]],
    config: IngestConfig,
    tally: Tally,
) -> dict[str, Any]:
    slots = [slot for layout in written for slot in layout.slots]
    units = {(slot.sensor, name): get_sensor(slot.sensor).band(name).unit for slot in slots for name in slot.bands}
    described = [{**to_dict(layout), "dtypes": dtypes[layout.name]} for layout in written]
    statistics = tally.statistics.to_dict(units)
    content = [json.dumps(described, sort_keys=True), json.dumps(_rounded(statistics), sort_keys=True)]
    content += sorted(one.hex() for one in tally.digests)
    return {
        "schema_version": SCHEMA_VERSION,
        "written_by": f"rsfm_jax {importlib.metadata.version('rsfm_jax')}",
        "ingest": to_dict(dataclasses.replace(config, layouts=())),
        "layouts": described,
        "sets": {layout.name: tally.counts(layout.name) for layout in layouts},
        "rejected": {layout.name: tally.rejections(layout.name) for layout in layouts},
        "left_out": {layout.name: tally.missed(layout.name) for layout in layouts},
        "unrecognised_files": problems.unrecognised,
        "broken_products": problems.products,
        "broken_scenes": {scene.id: error for scene, error in problems.scenes},
        "duplicates": [dataclasses.asdict(found) for found in problems.duplicates],
        "partly_unreadable_scenes": tally.unreadable,
        "unused_bands": unused_bands(scenes, written),
        "statistics": statistics,
        "digest": hashlib.sha256("".join(content).encode()).hexdigest(),
    }


def _rounded(statistics: dict[str, dict[str, dict[str, float | str]]]) -> Any:
    """Statistics to ten digits: the last of a float's depend on how the work was cut into shards."""
    return {
        sensor: {band: {k: v if isinstance(v, str) else float(f"{v:.10g}") for k, v in row.items()} for band, row in bands.items()}
        for sensor, bands in statistics.items()
    }


def _cut(
    layout: Layout, scenes: list[OpenScene], dtypes: list[str], config: IngestConfig, how: How, work: epath.Path, tally: Tally
) -> dict[str, str]:
    """Plans a layout's shards and writes them down as tasks; the split of each by name, those of 'train' first."""
    names: dict[str, str] = {}
    left_out: Counter[str] = Counter()
    with rows_file(work, _boundary(layout.name)).open("w") as rows:

        def of_a_split() -> Iterator[PlannedSet]:
            for plan in plan_sets(layout, scenes, config, left_out):
                if how.keep is not None:
                    if plan.key not in how.keep:
                        continue
                    tally.planned.add(plan.key)
                if plan.split is None:
                    row = set_row(plan, reason=BOUNDARY)
                    rows.write(json.dumps(row) + "\n")
                    tally.add_set(row)
                else:
                    yield plan

        for shard in cut_shards(layout, of_a_split(), tuple(dtypes), config.shard_mib):
            if not is_done(work, shard.name):
                put(work, shard.name, shard)
            names[shard.name] = shard.split
    tally.left_out.update({(layout.name, reason): count for reason, count in left_out.items()})
    return dict(sorted(names.items(), key=lambda one: one[1] != "train"))


def _boundary(layout: str) -> str:
    """Name of the rows of the sets that are in no split."""
    return f"{layout}-boundary"


def _dtypes(layout: Layout, scenes: list[OpenScene]) -> list[str]:
    """For each slot the type that holds the digital numbers of every scene that may fill it; empty where none may."""
    found, _ = candidates(layout, scenes)
    if not all(found):
        return []
    by_slot = {i: pool for numbers, pool in zip(layout.acquisitions(), found, strict=True) for i in numbers}
    return [
        "float32" if slot.minus else str(np.result_type(*(scene.bands[name].dtype for scene in by_slot[i] for name in slot.bands)))
        for i, slot in enumerate(layout.slots)
    ]
