"""Maps by the front door: every cell is what the task's probe says of its patch, and the summary says how good that is."""

import dataclasses
import json
import pathlib
from typing import Any

import numpy as np
import pytest
import rasterio

torch = pytest.importorskip("torch", reason="no CPU wheel of PyTorch for this Python")
pytest.importorskip("sklearn", reason="the extra that evaluates is not installed")

from rsfm_jax.errors import InputError  # noqa: E402
from rsfm_jax.evaluate import mapping  # noqa: E402
from rsfm_jax.evaluate.mapping import map_folder  # noqa: E402
from rsfm_jax.evaluate.networks.linear_head import LinearHead  # noqa: E402
from rsfm_jax.evaluate.probing.features import encoder_features, load_model  # noqa: E402
from rsfm_jax.evaluate.probing.probes import Samples, fit_probe, probe  # noqa: E402
from rsfm_jax.evaluate.samples.sides import make_splits  # noqa: E402
from rsfm_jax.evaluate.samples.sources import read_samples  # noqa: E402
from rsfm_jax.evaluate.tasks.task import Encoding, read_task  # noqa: E402
from tests.evaluate.small_scene import CLASSES, SIDE, image, points, write_labels, write_model, write_scene, write_task  # noqa: E402
from tests.helpers import assert_refused, run_door, write_scenes_yaml  # noqa: E402

PATCH, CHIP = 4, 16
SOURCE = {"window_px": CHIP, "before_px": 5}
ENCODING = {"layers": [0, -1], "pooling": ["mean", "token"]}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """The labelled scene, another one beside it, one of a sensor that is not the task's, and the model."""
    made = tmp_path_factory.mktemp("maps")
    write_scene(made, "other", seed=1)
    write_labels(made, write_scene(made))
    band = {"bands": {"B8": {"file": "image.tif", "index": 4}}, "sensor": "landsat8_l1", "scale": 1e-4, "offset": 0.0}
    pan = {name: value for name, value in image("pan", **band).items() if name != "baseline_offset_dn"}
    write_scenes_yaml(made / "scenes", *(entry for entry in (image(), image("other"), pan)))
    for name in ("image", "other"):
        (made / "scenes" / f"{name}.tif").write_bytes((made / f"{name}.tif").read_bytes())
    write_model(made / "small")
    return made


@pytest.fixture
def run(folder: pathlib.Path, tmp_path: pathlib.Path) -> Any:
    def one(out: str = "out", model: pathlib.Path | None = None, names: tuple[str, ...] = ("image",), options: Any = None, **changes: Any):
        file = write_task(tmp_path, **{"source": SOURCE, "encoding": ENCODING} | changes)
        return map_folder(model or folder / "small", file, folder, folder / "scenes", tmp_path / out, names, **options or {})

    return one


def expected_map(folder: pathlib.Path, file: pathlib.Path) -> np.ndarray:
    """What the probe says of every patch, chip by chip from the file's pixels, with features as the probe is given them; (96, 96)."""
    task = read_task(file)
    samples = read_samples(task, folder, file)
    (split,) = make_splits(task, samples)
    model = load_model(folder / "small", "small", "cpu")
    encoding = dataclasses.replace(task.encoding, layers=(-1,), pooling=("token",))
    (tokens,) = encoder_features(model, samples.chips, encoding)
    train = Samples(tokens.values[split.train], samples.targets[split.train], samples.groups[split.train])
    fitted = fit_probe("linear", "classification", train, task.seeds[0], len(samples.names))
    with rasterio.open(folder / "image.tif") as dataset:
        dn = dataset.read()
    values, footprint = dn * np.float32(1e-4), samples.chips.ground.footprint_deg
    from rasterio import warp

    starts = [(row, column) for row in range(0, SIDE, CHIP) for column in range(0, SIDE, CHIP)]
    corners = []
    for row, column in starts:
        left, top = 500_000.0 + 10 * column, 4_800_000.0 - 10 * row
        xs, ys = [left, left + 160, left + 160, left], [top, top, top - 160, top - 160]
        corners.append(np.stack(warp.transform("EPSG:32631", "EPSG:4326", xs, ys), axis=1))
    assert footprint.shape[1:] == corners[0].shape
    windows = [np.s_[:, row : row + CHIP, column : column + CHIP] for row, column in starts]
    member: dict[str, Any] = {"sensor": "sentinel2_l2a", "bands": ("B02", "B03", "B04", "B08"), "gsd_m": 10.0}
    member["values"] = torch.from_numpy(np.stack([np.where(dn[w] != 0, values[w], 0) for w in windows]))
    member["valid"] = torch.from_numpy(np.stack([dn[w] != 0 for w in windows]))
    if task.encoding.date:
        member["time"] = torch.tensor([[1.0, 2020.0, 152.0]]).expand(len(starts), 3)
    with torch.inference_mode():
        (grid,) = model.encoder([member], torch.from_numpy(np.stack(corners)) if task.encoding.location else None).grids
    said = fitted.outputs(grid.movedim(1, -1).flatten(0, 2).numpy()).argmax(axis=1).reshape(len(starts), CHIP // PATCH, CHIP // PATCH)
    whole = np.zeros((SIDE, SIDE), np.uint8)
    for (row, column), classes in zip(starts, said, strict=True):
        whole[row : row + CHIP, column : column + CHIP] = np.kron(classes, np.ones((PATCH, PATCH)))
    return np.where((dn != 0).any(axis=0), whole, 255).astype(np.uint8)


@pytest.mark.parametrize(
    "changes",
    [{}, {"encoding": {"location": False, "date": False}}, {"classes": {1: "wheat", 2: "water"}, "ignore": [5]}],
    ids=["told", "untold", "two classes"],
)
def test_cells_are_the_probe_s_own_predictions(folder: pathlib.Path, tmp_path: pathlib.Path, run: Any, changes: dict[str, Any]):
    summary = run(options={"overlap_px": 0}, **changes)
    expected = expected_map(folder, tmp_path / "task.yaml")
    with rasterio.open(tmp_path / "out" / "image.tif") as dataset:
        values, names = dataset.read(1), json.loads(dataset.tags()["classes"])
        assert (dataset.dtypes[0], dataset.nodata, dataset.count) == ("uint8", 255, 1)
        assert dataset.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        assert dataset.tags()["head_digest"] == summary["probe"]["sha256"]
        colours = dataset.colormap(1)
    np.testing.assert_array_equal(values, expected)
    assert set(np.unique(values)) == {*range(len(names)), 255}
    assert names == summary["classes"] == list(changes.get("classes", CLASSES).values())
    assert len({colours[k] for k in range(len(names))}) == len(names)
    assert summary["scenes"]["image"]["windows"] == (SIDE // CHIP) ** 2


def test_the_summary_says_how_good_the_probe_is(folder: pathlib.Path, tmp_path: pathlib.Path):
    file = write_task(tmp_path, source=SOURCE | {"most_per_shape": 3}, encoding={"pooling": ["token"]})
    flags = [f"--model={folder / 'small'}", "--embed=map", f"--task={file}", f"--data_root={folder}", f"--scenes={folder / 'scenes'}"]
    done = run_door("rsfm_jax.evaluate", *flags, f"--out={tmp_path / 'out'}")
    assert done.returncode == 0, done.stderr
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert sorted(summary["scenes"]) == ["image", "other"]
    assert summary["left_out"] == {"pan": "scene 'pan': is of landsat8_l1; sentinel2_l2a is wanted"}
    assert "left out: pan: " in done.stdout
    task = read_task(file)
    samples = read_samples(task, folder, file)
    (split,) = make_splits(task, samples)
    (tokens,) = encoder_features(load_model(folder / "small", "small", "cpu"), samples.chips, task.encoding)
    everything = Samples(tokens.values, samples.targets, samples.groups)
    row = probe(["linear"], "classification", everything.take(split.train), everything.take(split.test), [0], samples.names)[1]
    for figure in ("accuracy", "macro_f1", "log_loss", "ece", "n"):
        assert summary["probe"]["test"][figure] == pytest.approx(row[figure])
    assert summary["probe"]["strength"] == row["strength"]
    assert summary["probe"]["test"]["accuracy"] > summary["probe"]["without_features"]["accuracy"] + 0.2
    assert summary["scenes"]["other"]["overlap_px"] == 4  # a quarter
    with rasterio.open(tmp_path / "out" / "other.tif") as dataset, rasterio.open(folder / "other.tif") as pixels:
        assert (dataset.crs, dataset.transform, dataset.shape) == (pixels.crs, pixels.transform, pixels.shape)


def test_the_head_is_the_probe_and_knows_its_patch():
    rng = np.random.default_rng(0)
    features, targets = rng.normal(size=(90, 5)) * [1, 10, 100, 1, 0] + 3, rng.integers(0, 3, 90)
    for seen, classes in ((targets, 3), (np.array([0, 2, 3])[targets], 5), (np.array([1, 3, 3])[targets], 4)):
        fitted = fit_probe("linear", "classification", Samples(features, seen, np.arange(90)), 0, classes, [1.0])
        logits = LinearHead(fitted, 2)(torch.from_numpy(features.T.reshape(1, 5, 9, 10)))
        assert logits.shape == (1, classes, 18, 20)
        cells = logits.softmax(dim=1)[0, :, 1::2, ::2].flatten(1).T.numpy()
        np.testing.assert_allclose(cells, fitted.outputs(features), atol=1e-12)
    assert mapping.digest_of_head(LinearHead(fitted, 2)) != mapping.digest_of_head(LinearHead(fitted, 4))
    knn = fit_probe("knn", "classification", Samples(features, targets, np.arange(90)), 0, 3, [1])
    with pytest.raises(ValueError, match="the probe is knn for classification; expected linear"):
        LinearHead(knn, 2)


def test_another_probe_does_not_go_on_with_a_map(tmp_path: pathlib.Path, run: Any, monkeypatch: pytest.MonkeyPatch):
    forward, calls = LinearHead.forward, []

    def stopping(self: LinearHead, grid: Any) -> Any:
        calls.append(0)
        if len(calls) > 12:  # three rows of eight windows
            raise KeyboardInterrupt
        return forward(self, grid)

    monkeypatch.setattr(LinearHead, "forward", stopping)
    with pytest.raises(KeyboardInterrupt):
        run(options={"batch": 2})
    monkeypatch.setattr(LinearHead, "forward", forward)
    with pytest.raises(InputError, match=r"image\.tif: .*finished pieces of a run with other arguments \(head was"):
        run(options={"batch": 2}, source=SOURCE | {"most_per_shape": 3})
    again = run(options={"batch": 2})
    assert again["scenes"]["image"]["resumed_at"] == 3
    assert run(options={"batch": 2})["left_out"]["image"].endswith("is there already")
    run("whole", options={"batch": 2})
    with rasterio.open(tmp_path / "out" / "image.tif") as one, rasterio.open(tmp_path / "whole" / "image.tif") as two:
        np.testing.assert_array_equal(one.read(), two.read())
    with pytest.raises(InputError, match=r"image\.tif: is there already and no map of this probe"):
        run(options={"batch": 2}, source=SOURCE | {"most_per_shape": 3})


BLOCKS = {"kind": "blocks", "block_m": 240, "folds": 2, "gap_m": 0}


def test_what_no_map_can_be_made_of_is_refused(folder: pathlib.Path, tmp_path: pathlib.Path, run: Any):
    for changes, message in (
        ({"probes": ["knn", "linear"]}, r"task\.yaml: kind is 'classification' and the first of probes 'knn'; a map takes"),
        ({"kind": "regression", "classes": None, "source": points(target=["height"])}, "kind is 'regression'"),
        ({"encoding": {"layers": [0]}}, r"encoding\.layers is \[0\]; a map is of the last layer"),
        ({"split": BLOCKS}, "split of kind 'blocks' makes 2 splits"),
        ({"names": ("pan",)}, "scene 'pan': is of landsat8_l1; sentinel2_l2a is wanted"),
        ({"names": ("imge",)}, "--scene=imge: not in .*; did you mean 'image'"),
        ({"options": {"window_px": 18}}, "window of 18 pixels: must be a positive multiple of the patch, 4"),
    ):
        with pytest.raises(InputError, match=message):
            run(**changes)
    assert not list(tmp_path.glob("out/*.tif"))
    flags = [f"--model={folder / 'small'}", f"--scenes={folder / 'scenes'}", f"--out={tmp_path}"]
    assert_refused(run_door("rsfm_jax.evaluate", "--embed=map", *flags), "--task is missing")
    assert_refused(run_door("rsfm_jax.evaluate", "--embed=chips", "--task=x", *flags), "--task and --embed=chips: give one of them")
    assert Encoding().layers == (mapping.LAST,)
