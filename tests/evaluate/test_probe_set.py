"""The labelled set that a task becomes is what the probe of training reads: the same chips, classes and sides."""

import pathlib
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch", reason="no CPU wheel of PyTorch for this Python")
pytest.importorskip("sklearn", reason="the extra that evaluates is not installed")

from rsfm_jax.data.dataset import Dataset
from rsfm_jax.errors import InputError
from rsfm_jax.evaluate.samples.probe_set import make_probe_set
from rsfm_jax.evaluate.samples.sides import make_splits
from rsfm_jax.evaluate.samples.sources import read_samples
from rsfm_jax.evaluate.tasks.task import read_task
from rsfm_jax.train.probe_set import read_probe_set
from tests.evaluate.small_scene import image, points, write_labels, write_scene, write_task
from tests.helpers import assert_refused, run_door


def l3a(name: str = "image", **fields: Any) -> dict[str, Any]:
    """The image as of the sensor that the tiny dataset has; zeros are nodata."""
    entry = image(name, sensor="sentinel2_l3a", nodata=0, **fields)
    del entry["baseline_offset_dn"]
    return entry


@pytest.fixture
def folder(tmp_path: pathlib.Path) -> pathlib.Path:
    write_labels(tmp_path, write_scene(tmp_path))
    return tmp_path


def test_training_reads_the_same_chips_and_sides(folder: pathlib.Path, tiny_dataset: Dataset):
    file = write_task(folder, source={"images": [l3a()]})
    task = read_task(file)
    samples = read_samples(task, folder, file)
    (split,) = make_splits(task, samples)
    out = folder / "new" / "labelled.npz"
    done = run_door("rsfm_jax.evaluate", f"--task={file}", f"--probe_set={out}")
    assert done.returncode == 0, done.stderr
    assert [path.name for path in out.parent.iterdir()] == ["labelled.npz"]
    found = read_probe_set(str(out), tiny_dataset)
    rows = np.concatenate([split.train, split.test])
    mean, std = tiny_dataset.mean_std(found.slot)
    values, valid = (array[rows].transpose(0, 2, 3, 1) for array in (samples.chips.values, samples.chips.valid))
    assert not valid.all()
    assert found.slot.bands[:4] == ("B02", "B03", "B04", "B08")
    np.testing.assert_array_equal(found.valid[..., :4], valid)
    np.testing.assert_allclose((found.pixels * std + mean)[..., :4][valid], values[valid], atol=1e-5)
    np.testing.assert_array_equal(found.labels, samples.targets[rows])
    np.testing.assert_array_equal(np.flatnonzero(~found.test), np.arange(len(split.train)))
    assert (found.classes, found.slot.gsd_m, found.slot.pixels) == (3, 10.0, 8)
    for name, count in samples.counts(split.test).items():
        assert f"{name}: {samples.counts(split.train)[name]} to learn from, {count} to test" in done.stdout
    assert "'nodata at the pixel': " in done.stdout
    assert "'in the gap': " in done.stdout
    with pytest.raises(InputError, match=r"labelled\.npz: exists already; choose another name, or delete it first"):
        make_probe_set(file, folder, out)


BLOCKS = {"kind": "blocks", "block_m": 240, "folds": 2, "gap_m": 0}
GRID = {"labels": [{"kind": "raster", "file": "labels.tif"}], "most_per_shape": None, "at": "grid", "stride_px": 8}
BANDS = {band: {"file": "other.tif", "index": i + 1} for i, band in enumerate(("B02", "B03", "B04", "B05"))}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kind": "regression", "classes": None, "source": points(target=["height"])}, r"task\.yaml: kind is 'regression'; .* takes class"),
        ({"kind": "segmentation", "source": GRID}, r"task\.yaml: kind is 'segmentation'; "),
        ({"split": BLOCKS}, r"task\.yaml: split of kind 'blocks' makes 2 splits; .* spatial, column"),
        (
            {"source": {"images": [image(), image("other", bands=BANDS)]}},
            r"source: the samples are of sentinel2_l2a B02 .* at 10 m; sentinel",
        ),
        (
            {"source": points(groups=["crop"]), "split": {"kind": "column", "column": "crop", "train": [1, 2], "test": [5]}},
            r"split: the training side has .*'wood': 0.*without samples to learn from: wood",
        ),
    ],
    ids=lambda value: str(value)[:30],
)
def test_what_the_probe_cannot_take_is_refused(folder: pathlib.Path, changes: dict[str, Any], message: str):
    write_scene(folder, "other", seed=1)
    file, out = write_task(folder, **changes), folder / "labelled.npz"
    with pytest.raises(InputError, match=message):
        make_probe_set(file, folder, out)
    assert not out.exists()
    with pytest.raises(InputError, match=r"--data_root=.*nowhere: no such folder"):
        make_probe_set(file, folder / "nowhere", out)


def test_flags_that_do_not_go_together(folder: pathlib.Path):
    file = write_task(folder)
    assert_refused(run_door("rsfm_jax.evaluate", "--probe_set=x.npz"), "--task is missing")
    assert_refused(run_door("rsfm_jax.evaluate", f"--task={file}", "--probe_set=x.npz", "--model=x"), "--model and --probe_set: give one")
