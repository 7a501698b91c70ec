"""The whole of an evaluation, in this process: rows, means over folds and seeds, transfer tables, baselines beside the models."""

import csv
import json
import pathlib
import statistics

import numpy as np
import pytest

pytest.importorskip("torch", reason="no CPU wheel of PyTorch for this Python")
pytest.importorskip("sklearn", reason="the extra that evaluates is not installed")

from sklearn.linear_model import Ridge
from sklearn.preprocessing import StandardScaler

from rsfm_jax.errors import InputError
from rsfm_jax.evaluate.evaluation import evaluate
from rsfm_jax.evaluate.samples.sides import make_splits
from rsfm_jax.evaluate.samples.sources import read_samples
from rsfm_jax.evaluate.tasks.task import read_task
from tests.evaluate.small_catalogue import NAME, write_catalogue
from tests.evaluate.small_scene import image, points, write_labels, write_model, write_scene, write_task


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> pathlib.Path:
    return write_model(tmp_path_factory.mktemp("models") / "small")


@pytest.fixture
def run(tmp_path, model):
    write_labels(tmp_path, write_scene(tmp_path))

    def one(folders=None, **changes):
        return evaluate(folders or [model], write_task(tmp_path, **changes), tmp_path / "out", tmp_path)

    return one


def rows_of(results, features, probe="linear", **keys) -> list[dict]:
    wanted = {"features": features, "probe": probe} | keys
    return [row for row in results["rows"] if all(row[key] == value for key, value in wanted.items())]


def test_quantities_by_hand(run, tmp_path):
    results = run(kind="regression", classes=None, source=points(target=["height"]), metrics=["rmse", "r2"])
    assert {row["features"] for row in results["rows"]} == {"none", "raw_pixels", "window_statistics", "small", "random init of small"}
    task = read_task(tmp_path / "task.yaml")
    samples = read_samples(task, tmp_path, tmp_path / "task.yaml")
    (split,) = make_splits(task, samples)
    (row, _) = rows_of(results, "raw_pixels")
    features = samples.chips.values.reshape(len(samples), -1).astype(np.float64)  # chips of 8 pixels: the window of raw pixels is all
    scaler = StandardScaler().fit(features[split.train])
    model = Ridge(alpha=row["strength"]).fit(scaler.transform(features[split.train]), samples.targets[split.train])
    error = model.predict(scaler.transform(features[split.test])) - samples.targets[split.test]
    assert row["rmse"] == pytest.approx(np.sqrt((error**2).mean()), rel=1e-6)
    (mean, _) = rows_of(results, "none", "mean_predictor")
    offset = samples.targets[split.train].mean() - samples.targets[split.test].mean()
    assert mean["rmse"] == pytest.approx(np.hypot(mean["target_sd"], offset))
    assert row["rmse"] < mean["rmse"]
    assert [one["rmse"] for one in results["means"]] == sorted(one["rmse"] for one in results["means"])
    assert results["figures"] == ["rmse", "r2"]


def test_every_seed_has_its_own_untrained_encoder(run):
    results = run(kind="regression", classes=None, source=points(target=["height"]), metrics=["rmse"], probes=["linear"])
    trained, untrained = (rows_of(results, name) for name in ("small", "random init of small"))
    assert [row["seed"] for row in trained] == [row["seed"] for row in untrained] == [0, 1]
    assert len({row["rmse"] for row in trained}) == 1
    assert len({row["rmse"] for row in untrained}) == 2
    assert [one["features"] for one in results["features"]].count("random init of small") == 1


def test_folds_are_averaged_before_seeds(run):
    split = {"kind": "blocks", "block_m": 240, "folds": 3, "gap_m": 40}
    results = run(split=split, metrics=["accuracy"], source=points(), encoding={"pooling": ["token"]})
    rows = rows_of(results, "window_statistics")
    assert sorted((row["fold"], row["seed"]) for row in rows) == [(fold, seed) for fold in range(3) for seed in (0, 1)]
    by_seed = [statistics.fmean(row["accuracy"] for row in rows if row["seed"] == seed) for seed in (0, 1)]
    (mean,) = (one for one in results["means"] if one["features"] == "window_statistics")
    assert mean["accuracy"] == pytest.approx(statistics.fmean(by_seed))
    assert mean["accuracy_sd"] == pytest.approx(statistics.stdev(by_seed))
    assert (mean["folds"], mean["seeds"]) == (3, 2)
    assert sum(one["test_n"] for one in results["splits"]) == results["samples"]["n"]


def test_a_season_does_not_transfer(tmp_path, model):
    names = [f"{season}{i}" for season in ("summer", "winter") for i in range(3)]
    for i, name in enumerate(names):
        fields = write_scene(tmp_path, name, seed=i, brighter=1.0 if name.startswith("summer") else -1.0)
        write_labels(tmp_path, fields)
        (tmp_path / "labels.tif").rename(tmp_path / f"{name}_labels.tif")
    source = {
        "kind": "rasters",
        "images": [image(name) for name in names],
        "labels": [{"kind": "raster", "file": f"{name}_labels.tif", "image": name} for name in names],
        "columns": {"season": {name: name[:-1] for name in names}},
        "window_px": 8,
        "at": "pixels",
        "most": 600,
    }
    split = {"kind": "transfer", "by": "season", "test_share": 0.34}
    file = write_task(tmp_path, source=source, split=split, seeds=[0], probes=["linear", "knn"], inner_groups="scene")
    results = evaluate([model], file, tmp_path / "out", tmp_path)
    (table,) = (one for one in results["transfer"] if (one["features"], one["probe"]) == ("window_statistics", "linear"))
    assert [row["train_group"] for row in table["rows"]] == ["summer", "winter"]
    for row in table["rows"]:
        assert row["within"] > 0.8
        assert row["across"] < 0.6
    assert "Transfer: window_statistics, linear" in (tmp_path / "out" / "report.html").read_text()


def test_labels_of_a_catalogue_and_two_models(tmp_path):
    write_catalogue(tmp_path)
    models = [write_model(tmp_path / name / "weights") for name in ("first", "second")]
    bands = {name: {"feature": "sentinel2", "index": i + 1} for i, name in enumerate(("B02", "B03", "B04", "B08"))}
    source = {"kind": "tfds", "name": NAME, "data_dir": ".", "splits": ["train", "test"], "sensor": "sentinel2_l2a", "bands": bands}
    source |= {"gsd_m": 10, "label": "labels", "scale": 1e-4, "offset": 0}
    split = {"kind": "column", "column": "split", "train": ["train"], "test": ["test"]}
    file = write_task(tmp_path, kind="multilabel", classes=None, source=source, split=split, seeds=[0], probes=["linear"])
    results = evaluate(models, file, tmp_path / "out", tmp_path)
    both = [rows_of(results, str(folder))[0] for folder in models]
    assert both[0]["map_macro"] == both[1]["map_macro"] > 0.9  # the same weights
    assert rows_of(results, "raw_pixels")[0]["map_macro"] > 0.9
    with pytest.raises(InputError, match="a folder is given twice"):
        evaluate([models[0], models[0]], file, tmp_path / "out", tmp_path)


def test_the_files(run, tmp_path):
    results = run(per_class=[None, 4], source=points(), encoding={"layers": [0, -1]})
    out = tmp_path / "out"
    assert json.loads((out / "results.json").read_text()) == json.loads(json.dumps(results))
    with (out / "rows.csv").open() as stream:
        table = list(csv.DictReader(stream))
    assert [float(row["accuracy"]) for row in table] == [row["accuracy"] for row in results["rows"]]
    assert results["samples"]["dropped"]["nodata at the pixel"] > 0
    assert results["models"][0]["sha256"]
    assert results["versions"]["torch"]
    page = (out / "report.html").read_text()
    assert page.count("data:image/png;base64,") == 3  # bars, few labels, chips
    assert "http" not in page.replace("http-equiv", "")
    for word in ("nodata at the pixel", "random init of small", "window_statistics", "wheat", "class_frequencies"):
        assert word in page
    few = rows_of(results, "small", per_class=4, layer=0)
    assert [row["train_n"] for row in few] == [12, 12]
    (frequencies,) = (row for row in rows_of(results, "none", "class_frequencies", per_class=None) if row["seed"] == 0)
    counts = results["splits"][0]["counts"]
    largest = max(counts["train"], key=lambda name: counts["train"][name])
    assert frequencies["accuracy"] == pytest.approx(counts["test"][largest] / results["splits"][0]["test_n"])
    stamps = {file: file.stat().st_mtime_ns for file in (out / "features").iterdir()}
    assert len(stamps) == 3  # of the model, and of an untrained encoder for each seed
    again = run(probes=["knn"], source=points(), encoding={"layers": [0, -1]})
    assert {file: file.stat().st_mtime_ns for file in (out / "features").iterdir()} == stamps
    assert {row["probe"] for row in again["rows"]} == {"knn", "class_frequencies"}


def test_what_is_wrong_is_named(run, tmp_path, model):
    with pytest.raises(InputError, match="--device=cuda:99: PyTorch cannot use it"):
        evaluate([model], write_task(tmp_path), tmp_path / "out", tmp_path, device="cuda:99")
    for changes, message in (
        ({"source": points(images=[image(sensor="sentinel2_l1c")])}, "sensor 'sentinel2_l1c' .* it knows landsat8_l1 .*sentinel2_l2a"),
        ({"source": points(window_px=10)}, "chips of 10 pixels are no multiple of its patch, 4"),
        ({"inner_groups": "scene"}, "task fields: split into two, raw_pixels: .*1 groups; expected at least 2"),
        ({"inner_groups": "field"}, "the samples have no column 'field'; they have scene, sensor"),
    ):
        with pytest.raises(InputError, match=message):
            run(**changes)
    assert not (tmp_path / "out" / "results.json").exists()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="already holds something that is no result of this command"):
        evaluate([model], write_task(tmp_path), tmp_path / "other", tmp_path)
    with pytest.raises(InputError, match=r"--data_root=.*nowhere: no such folder"):
        evaluate([model], write_task(tmp_path), tmp_path / "out", tmp_path / "nowhere")
    with pytest.raises(InputError, match="nowhere: no such folder"):
        evaluate([tmp_path / "nowhere"], write_task(tmp_path), tmp_path / "out", tmp_path)
