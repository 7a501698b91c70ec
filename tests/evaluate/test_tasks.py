"""Task files are read strictly: what is unknown, missing or does not fit together is named."""

import dataclasses
import pathlib

import pytest
import yaml

pytest.importorskip("sklearn", reason="the extra that evaluates is not installed")
pytest.importorskip("geopandas", reason="the extra that evaluates is not installed")

from rsfm_jax.errors import InputError
from rsfm_jax.evaluate.tasks.task import Blocks, Task, read_task
from rsfm_jax.evaluate.tasks.task_sources import Points, Rasters
from tests.evaluate.small_scene import CLASSES, points, task, write_task


def test_what_a_task_says(tmp_path):
    read = read_task(write_task(tmp_path, per_class=[None, 5], encoding={"layers": [1, -1], "pooling": ["token"]}))
    assert read.classes == CLASSES
    assert read.per_class == (None, 5)
    assert read.encoding.layers == (1, -1)
    assert read.encoding.pooling == ("token",)
    assert isinstance(read.source, Rasters)
    assert read.source.labels[0].attribute == "crop"
    assert (read.source.before, read.source.most, read.split.kind) == (5, None, "spatial")
    assert read.figures[:2] == ("accuracy", "macro_f1")
    assert dataclasses.replace(read, metrics=("macro_f1",)).figures == ("macro_f1",)
    with pytest.raises(dataclasses.FrozenInstanceError):
        read.name = "other"  # pyright: ignore[reportAttributeAccessIssue]
    blocks = {"kind": "blocks", "block_m": "2e2", "folds": 3, "gap_m": 10}  # YAML takes 2e2 for text
    other = read_task(write_task(tmp_path, source=points(), split=blocks))
    assert isinstance(other.source, Points)
    assert other.split == Blocks("blocks", 200.0, 3, 10.0, 0)
    assert (other.source.before, other.source.crs) == (4, "EPSG:4326")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"sedes": [0]}, ["task.yaml: unknown key 'sedes'", "did you mean 'seeds'?"]),
        ({"source": {"windw_px": 8}}, ["task.yaml: source: unknown key 'windw_px'", "did you mean 'window_px'?"]),
        ({"source": points(targt=["a"])}, ["source: unknown key 'targt'", "did you mean 'target'?"]),
        ({"name": None}, ["key 'name' is missing"]),
        ({"source": points(window_px=None)}, ["source: window_px: is None; expected a whole number"]),
        ({"kind": "clasification"}, ["kind: is 'clasification'; did you mean 'classification'?"]),
        ({"source": {"kind": "raster"}}, ["source: kind is 'raster'; did you mean 'rasters'?"]),
        ({"split": {"axis": "x"}}, ["split: kind is None; expected a mapping with kind spatial, blocks, transfer, column"]),
        ({"split": {"kind": "spatial", "axis": "z", "gap_m": 1}}, ["split: axis: is 'z'", "expected one of x, y"]),
        ({"split": {"kind": "spatial", "axis": "x", "gap_m": "wide"}}, ["split: gap_m: is 'wide'; expected a number"]),
        ({"seeds": 3}, ["seeds: is 3; expected a list"]),
        ({"seeds": [0, 0]}, ["seeds are [0, 0]"]),
        ({"seeds": [True]}, ["seeds[0]: is True; expected a whole number"]),
        ({"probes": ["liner"]}, ["probes: 'liner' is not known", "did you mean 'linear'?"]),
        ({"metrics": ["rmse"]}, ["metrics: 'rmse' is not known for classification"]),
        ({"classes": {1: "a", 2: "a"}}, ["expected two or more different names"]),
        ({"classes": None}, ["classes are missing"]),
        ({"kind": "regression"}, ["classes are {1: 'wheat'", "for classes only"]),
        ({"kind": "multilabel", "classes": None}, ["multilabel needs a source of kind points or tfds"]),
        ({"kind": "segmentation"}, ["segmentation needs a source of kind rasters with at: grid"]),
        ({"source": {"before_px": 8}}, ["source: window_px is 8 and before_px 8"]),
        ({"source": {"at": "grid"}}, ["expected stride_px of at least 1 for at: grid only"]),
        ({"source": {"labels": [{"kind": "vector", "file": "a"}]}}, ["labels[0]: shapes need either attribute", "or value"]),
        (
            {"source": {"labels": [{"kind": "vector", "file": "a", "value": 1, "crs": "EPSG:4326", "reproject": True}]}},
            ["crs says that the file's tag is wrong and reproject that it is right"],
        ),
        ({"kind": "regression", "classes": None, "per_class": [5]}, ["few labels are drawn for classification only"]),
        ({"training": {"lrs": []}}, ["training: lrs, modes"]),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_is_wrong_is_named(tmp_path, changes, words):
    file = tmp_path / "task.yaml"
    file.write_text(yaml.safe_dump(task(**changes)))
    with pytest.raises(InputError) as caught:
        read_task(file)
    missing = [word for word in words if word not in str(caught.value)]
    assert not missing, f"{missing} not in {caught.value}"


def test_no_such_file(tmp_path):
    write_task(tmp_path)
    with pytest.raises(InputError, match=r"tsk\.yaml: no such file; did you mean 'task\.yaml'"):
        read_task(tmp_path / "tsk.yaml")
    (tmp_path / "list.yaml").write_text("- 1")
    with pytest.raises(InputError, match="expected a mapping with the keys name, kind"):
        read_task(tmp_path / "list.yaml")


def test_task_files_that_ship_are_read(repo):
    files = sorted((repo / "configs" / "tasks").glob("*.yaml"))
    assert len(files) >= 5
    for file in files:
        assert isinstance(read_task(pathlib.Path(file)), Task)
