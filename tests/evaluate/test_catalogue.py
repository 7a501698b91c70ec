"""Samples from a prepared TFDS dataset of real chips, and what is said where it is not prepared."""

import numpy as np
import pytest

pytest.importorskip("torch", reason="no CPU wheel of PyTorch for this Python")
pytest.importorskip("sklearn", reason="the extra that evaluates is not installed")

from rsfm_jax.errors import InputError
from rsfm_jax.evaluate.samples.sources import read_samples
from rsfm_jax.evaluate.tasks.task import read_task
from tests.evaluate.small_catalogue import NAME, chips, write_catalogue
from tests.evaluate.small_scene import write_task

SOURCE = {
    "kind": "tfds",
    "name": NAME,
    "data_dir": ".",
    "splits": ["train", "test"],
    "sensor": "sentinel2_l3a",
    "bands": {"B04": {"feature": "sentinel2", "index": 3}, "B08": {"feature": "B08"}},
    "gsd_m": 10,
    "label": "label",
    "scale": 1e-4,
    "offset": 0,
}
SPLIT = {"kind": "column", "column": "split", "train": ["train"], "test": ["test"]}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_catalogue(tmp_path_factory.mktemp("tfds"))


@pytest.fixture
def read(folder, tmp_path):
    def one(kind="classification", **fields):
        file = write_task(tmp_path, kind=kind, classes=None, source=SOURCE | fields, split=SPLIT)
        return read_samples(read_task(file), folder, file)

    return one


def by_values(array: np.ndarray) -> np.ndarray:
    return array[np.lexsort(array.reshape(len(array), -1)[:, :8].T)]


def test_chips_and_classes(read):
    samples = read()
    every = np.stack(chips()).astype(np.float32)[..., [2, 3]].transpose(0, 3, 1, 2) * np.float32(1e-4)
    np.testing.assert_allclose(by_values(samples.chips.values), by_values(every), atol=1e-7)
    bright = samples.chips.values[:, 1].mean(axis=(1, 2))
    np.testing.assert_array_equal(samples.targets, bright > np.median(bright))
    assert samples.names == ("dark", "bright")
    assert samples.chips.ground is None
    assert samples.chips.valid.all()
    assert sorted(np.unique(samples.columns["split"])) == ["test", "train"]
    assert len(np.unique(samples.groups)) == len(samples)


def test_labels_quantities_scenes_and_draws(read):
    samples = read("multilabel", label="labels", scene="filename", groups=["filename"])
    assert samples.targets[:, 0].all()
    assert 0.4 < samples.targets[:, 1].mean() < 0.6
    assert len(np.unique(samples.groups)) == len(np.unique(samples.columns["filename"])) < len(samples) / 2
    levels = read("regression", label="level", most=20)
    np.testing.assert_allclose(levels.targets * 1e-4, levels.chips.values[:, 1].mean(axis=(1, 2)), rtol=1e-4)
    assert len(levels) == 40
    assert levels.dropped["not drawn"] == len(samples) - 40
    parts = read(splits=["train[:50%]"])
    assert len(parts) < len(samples) / 3


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"name": "eurosat/all"}, r"'eurosat/all' is not prepared in .*tfds.builder\('eurosat/all', data_dir=.*download_and_prepare"),
        ({"splits": ["validation"]}, "has no split 'validation'; it has"),
        ({"label": "lable"}, "label 'lable' has no names|no feature 'lable'"),
        ({"bands": {"B04": {"feature": "sentinel"}}}, "no feature 'sentinel'.*did you mean 'sentinel2'"),
        ({"bands": {"B04": {"feature": "sentinel2"}}}, r"B04: feature 'sentinel2' has the shape \(16, 16, 4\) and index is None"),
        ({"bands": {"B04": {"feature": "sentinel2", "index": 5}}}, "index is 5"),
        (
            {"bands": SOURCE["bands"] | {"B11": {"feature": "coarse/B11"}}},
            r"different sizes \(B04 \(16, 16\), B08 \(16, 16\), B11 \(8, 8\)\)",
        ),
        ({"bands": {"B4": {"feature": "B08"}}}, "has no band 'B4'.*did you mean 'B04'"),
        ({"sensor": "sentinel2"}, "sensor 'sentinel2' is not in the registry"),
        ({"scale": 1.0}, r"are outside \[-0.2, 2\] reflectance"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_what_is_wrong_is_named(read, fields, message):
    with pytest.raises(InputError, match=message):
        read(**fields)
