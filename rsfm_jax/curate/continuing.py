"""A curated folder that another dataset is added to: what must agree, and what is carried on."""

from collections.abc import Mapping
import dataclasses
import pathlib
from typing import Any

from etils import epath
import numpy as np

from rsfm_jax.config import CurateConfig, to_dict
from rsfm_jax.curate.assign import squared_distance
from rsfm_jax.curate.hierarchy import Clustering
from rsfm_jax.curate.manifest import Clustered, read_clusters
from rsfm_jax.curate.pool import FOLDER, Source
from rsfm_jax.curate.scaling import Scaling, scaling_from_dict
from rsfm_jax.curate.streaming import add, begin, renew
from rsfm_jax.data.curation import read_description
from rsfm_jax.data.dataset import Dataset
from rsfm_jax.errors import InputError
from rsfm_jax.layouts import Layout, layout_from_dict


@dataclasses.dataclass(frozen=True)
class Earlier:
    """What a curated folder says, by name of the layout; empty for a fresh start.

    Attributes:
      sources: Its datasets.
      layouts: Its layouts.
      statistics: Of the bands, for the bins of the entropy and the contrast.
      scalings: How descriptors become points.
      clusters: Who belongs to which cluster.
      figures: Of the clustering: levels, preference and so on.
    """

    sources: list[Source] = dataclasses.field(default_factory=list)
    layouts: dict[str, Layout] = dataclasses.field(default_factory=dict)
    statistics: dict[str, Any] = dataclasses.field(default_factory=dict)
    scalings: dict[str, Scaling] = dataclasses.field(default_factory=dict)
    clusters: dict[str, Clustered] = dataclasses.field(default_factory=dict)
    figures: dict[str, Any] = dataclasses.field(default_factory=dict)


def read_earlier(folder: pathlib.Path, dataset: Dataset, config: CurateConfig) -> Earlier:
    """Reads a curated folder that a dataset is to be added to.

    Args:
      folder: The curated folder.
      dataset: The dataset.
      config: The config it is added with.

    Returns:
      What is carried on.

    Raises:
      InputError: it is no curated folder or a random sample, holds the dataset already, was made with another config, or has a layout of
        the same name with other slots.
    """
    found = read_description(epath.Path(folder), "--add_to")
    if found.get("random"):
        raise InputError(f"--add_to={folder}: is a random sample and has no clusters to add to; give a folder made without --random")
    sources = [Source(**fields) for fields in found["datasets"]]
    if dataset.digest in [source.digest for source in sources]:
        raise InputError(f"--data={dataset.path}: is already in --add_to={folder}")
    before = found["config"]
    changes = [f"curate.{name}: {before.get(name)!r} -> {value!r}" for name, value in to_dict(config).items() if before.get(name) != value]
    if changes:
        raise InputError(
            f"--add_to={folder}: was made with another config ({'; '.join(changes)}); add to it with the config it was made with"
        )
    layouts = {name: layout_from_dict(fields["layout"]) for name, fields in found["layouts"].items()}
    for layout in dataset.layouts:
        if layout.name in layouts and layouts[layout.name].slots != layout.slots:
            raise InputError(f"--data={dataset.path}: its layout {layout.name!r} has other slots than that of --add_to={folder}")
    for source in sources:
        if not (folder / FOLDER / source.digest).is_dir():
            raise InputError(f"--add_to={folder}: the descriptors of dataset {source.digest} are missing; the folder is not whole")
    clustered = {name: read_clusters(folder, sources, name) for name, fields in found["layouts"].items() if "clusters" in fields}
    return Earlier(
        sources,
        layouts,
        {name: fields["statistics"] for name, fields in found["layouts"].items()},
        {name: scaling_from_dict(found["layouts"][name]["scaling"], config.clip_z) for name in clustered},
        clustered,
        {name: found["layouts"][name]["clusters"] for name in clustered},
    )


def add_to_clusters(earlier: Clustered, figures: Mapping[str, Any], points_ND: np.ndarray, rows: np.ndarray) -> Clustering:
    """Adds new candidates of a layout to its clusters: near ones join, the others and the exemplars are clustered anew.

    Args:
      earlier: The clusters, of the first sets of the pool.
      figures: Of the clusters: preference and so on.
      points_ND: All candidates, the earlier ones first, float32.
      rows: Which of the pool's sets they are.

    Returns:
      The clustering of all candidates, with the preference of the earlier one. An added set's level is 1 for an exemplar and else 0.

    Raises:
      InputError: every earlier set is a cluster, so nothing says what a cluster costs.
    """
    old = int((rows < len(earlier.cluster)).sum())
    exemplars, level = np.searchsorted(rows, earlier.exemplars), earlier.level[rows[:old]].astype(np.int8)
    fixed = {name: figures[name] for name in ("levels", "preference", "blocks", "unconverged")}
    carried = {"net_similarity": figures["net_similarity"], "distortion": figures["distortion"]}
    before = Clustering(exemplars, earlier.cluster[rows[:old]], level, **fixed, **carried)
    if len(rows) == old:
        return before
    if fixed["preference"] >= 0:
        raise InputError(
            "--add_to: every set of it is a cluster of its own, so that nothing can join; curate both datasets with a smaller target"
        )
    stream = renew(add(begin(points_ND[:old], before), points_ND[old:]))
    found = np.sort(stream.nodes.row)
    cluster = np.searchsorted(found, stream.exemplar).astype(np.int32)
    loss = float(squared_distance(points_ND, points_ND[found[cluster]]).astype(np.float64).sum())
    level = np.concatenate([level, np.isin(np.arange(old, len(rows)), found).astype(np.int8)])
    net = len(found) * fixed["preference"] - loss
    return Clustering(found, cluster, level, **fixed, net_similarity=net, distortion=loss / len(rows))
