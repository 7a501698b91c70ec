"""From a dataset folder to a curated folder, all or nothing.

curation.json      what was curated and how: config, datasets, scaling, clusters, coverage, versions
manifest.parquet   what became of every image set
descriptors/       the descriptors of every set, by dataset, so that more can be added without the pixels
report.html        exemplars, map, coverage, rejections
"""

from collections import Counter
from collections.abc import Sequence
import dataclasses
import importlib.metadata
import json
import pathlib
import shutil
from typing import Any

import numpy as np

from rsfm_jax.config import CurateConfig, to_dict
from rsfm_jax.curate.continuing import Earlier, add_to_clusters, read_earlier
from rsfm_jax.curate.coverage import measure
from rsfm_jax.curate.describing import Describer, describe_all, ranges, read_scene_values
from rsfm_jax.curate.descriptors import GROUPS, feature_names
from rsfm_jax.curate.hierarchy import Clustering
from rsfm_jax.curate.manifest import NOT_DRAWN, NOT_SAMPLED, Outcome, write_manifest
from rsfm_jax.curate.pool import FOLDER, Pool, Source, count_candidates, read_pool
from rsfm_jax.curate.report import REPORT_FILE, Story, write_report
from rsfm_jax.curate.scaling import fit_scaling
from rsfm_jax.curate.selection import describe_clusters, find_clusters, keep, keep_at_random, share_target
from rsfm_jax.data.curation import CURATION_FILE, SCHEMA_VERSION
from rsfm_jax.data.dataset import Dataset, open_dataset
from rsfm_jax.errors import InputError
from rsfm_jax.layouts import Layout
from rsfm_jax.staging import check_free, new_folder

_PACKAGES = ("rsfm_jax", "jax", "numpy", "pyarrow")


@dataclasses.dataclass(frozen=True)
class Order:
    """What is asked for on the command line.

    Attributes:
      data: The dataset folder.
      target: Sets to keep, of all splits 'train' together.
      out: The curated folder to make.
      workers: Processes that describe; see `rsfm_jax.curate.describing.describe_all`.
      beam: Options of an Apache Beam pipeline.
      add_to: A curated folder that the dataset is added to, or None.
      random: Whether a random sample is kept of what is not rejected, without clusters, for comparison.
    """

    data: pathlib.Path
    target: int
    out: pathlib.Path
    workers: int = 1
    beam: Sequence[str] = ()
    add_to: pathlib.Path | None = None
    random: bool = False


def run_curate(order: Order, config: CurateConfig) -> dict[str, Any]:
    """Curates a dataset.

    Args:
      order: What is asked for.
      config: Thresholds, weights, clusters.

    Returns:
      The content of curation.json.

    Raises:
      InputError: anything wrong with the input; nothing is left at ``order.out``.
    """
    if order.random and order.add_to:
        raise InputError(f"--random: a random sample has no clusters that --add_to={order.add_to} could go on with; leave one of them out")
    check_free(order.out, "out")
    dataset = open_dataset(str(order.data), named="--data")
    earlier = read_earlier(order.add_to, dataset, config) if order.add_to else Earlier()
    layouts = earlier.layouts | {layout.name: layout for layout in dataset.layouts if layout.name not in earlier.layouts}
    statistics = dict.fromkeys(layouts, dataset.statistics) | earlier.statistics
    sources = [*earlier.sources, Source(str(dataset.path), dataset.digest, _sets(dataset))]
    with new_folder(order.out, "out") as folder:
        if order.add_to:
            shutil.copytree(order.add_to / FOLDER, folder / FOLDER)
        described = folder / FOLDER / dataset.digest
        described.mkdir(parents=True)
        describer = Describer(str(order.data), read_scene_values(order.data), statistics, config, str(described))
        describe_all(describer, ranges(sources[-1].sets), order.workers, order.beam)
        stories = _curate(folder, sources, layouts, order, config, earlier)
        write_manifest(folder, sources, {name: story.outcome for name, story in stories.items()}, config.seed)
        summary = {
            "schema_version": SCHEMA_VERSION,
            "written_by": f"rsfm_jax {importlib.metadata.version('rsfm_jax')}",
            "config": to_dict(config),
            "target": order.target,
            "random": order.random,
            "kept": sum(int(story.outcome.kept.sum()) for story in stories.values()),
            "datasets": [dataclasses.asdict(source) for source in sources],
            "layouts": {name: _describe(story, statistics[name]) for name, story in stories.items()},
            "versions": {package: importlib.metadata.version(package) for package in _PACKAGES},
        }
        summary["pictures"] = write_report(folder / REPORT_FILE, summary, stories, sources)
        (folder / CURATION_FILE).write_text(json.dumps(summary, indent=1) + "\n")
    return summary


def _sets(dataset: Dataset) -> dict[str, dict[str, int]]:
    return {layout.name: dict(dataset.sets[layout.name]) for layout in dataset.layouts}


def _curate(
    folder: pathlib.Path, sources: list[Source], layouts: dict[str, Layout], order: Order, config: CurateConfig, earlier: Earlier
) -> dict[str, Story]:
    candidates = {name: count_candidates(folder, sources, name) for name in layouts}
    targets = share_target(candidates, order.target)
    return {name: _curate_layout(folder, sources, layout, targets[name], order.random, config, earlier) for name, layout in layouts.items()}


def _curate_layout(
    folder: pathlib.Path, sources: list[Source], layout: Layout, target: int, random: bool, config: CurateConfig, earlier: Earlier
) -> Story:
    names = feature_names(layout)
    pool = read_pool(folder, sources, layout.name, len(names))
    rows = pool.candidates
    weights = {group: getattr(config, f"{group}_weight") for group in GROUPS}
    scaling = earlier.scalings.get(layout.name) or fit_scaling(pool.descriptors[rows], names, weights, config.clip_z)
    clipped = scaling.clipped(pool.descriptors[rows])
    points_ND = scaling.points(pool.descriptors[rows])
    pool.descriptors = np.empty((0, len(names)), np.float32)  # the points replace them
    clusters = coverage = None
    if len(rows) and layout.name in earlier.clusters:
        clusters = add_to_clusters(earlier.clusters[layout.name], earlier.figures[layout.name], points_ND, rows)
    elif len(rows) and not random:
        clusters = find_clusters(points_ND, pool.lonlat_deg[rows], target, config)
    outcome = _outcome(pool, rows, clusters, target, config)
    if clusters:
        coverage = measure(points_ND, clusters.cluster, outcome.kept[rows], config.seed)
    return Story(layout, pool, scaling, clipped, clusters, coverage, outcome, target)


def _outcome(pool: Pool, rows: np.ndarray, clusters: Clustering | None, target: int, config: CurateConfig) -> Outcome:
    count = len(pool.reason)
    found = Outcome(
        np.zeros(count, bool),
        list(pool.reason),
        np.full(count, -1, np.int32),
        np.zeros(count, bool),
        np.zeros(count),
        np.full(count, -1, np.int32),
    )
    if clusters:
        chosen, why_not = keep(clusters.cluster, clusters.exemplars, target, config), NOT_DRAWN
        found.cluster[rows], found.level[rows] = clusters.cluster, clusters.level
        found.exemplar[rows[clusters.exemplars]] = True
    else:  # a random sample, or nothing to choose from
        chosen, why_not = keep_at_random(len(rows), target, config.seed), NOT_SAMPLED
    found.kept[rows], found.weight[rows] = chosen.kept, chosen.weight
    for row in rows[~chosen.kept]:
        found.reason[row] = why_not
    return found


def _describe(story: Story, statistics: Any) -> dict[str, Any]:
    """What curation.json says of a layout."""
    reasons = Counter(reason for reason in story.outcome.reason if reason and reason not in (NOT_DRAWN, NOT_SAMPLED))
    sensors = {slot.sensor for slot in story.layout.slots}
    found = {
        "layout": to_dict(story.layout),
        "sets": len(story.outcome.kept),
        "rejected": dict(reasons.most_common()),
        "target": story.target,
        "kept": int(story.outcome.kept.sum()),
        "scaling": story.scaling.to_dict(),
        "clipped": story.clipped,
        "statistics": {sensor: statistics[sensor] for sensor in sorted(sensors)},
    }
    if story.clusters and story.coverage:
        found |= {"clusters": describe_clusters(story.clusters), "coverage": story.coverage.figures}
    return found
