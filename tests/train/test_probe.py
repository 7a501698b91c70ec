"""The in-loop probe: its figures are those of the frozen features, it changes nothing in training, and it costs what it may."""

import dataclasses
import pathlib
from typing import Any

from etils import epath
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.linear_model import Ridge
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import StandardScaler

from rsfm_jax.config import Config
from rsfm_jax.data.dataset import Dataset
from rsfm_jax.errors import InputError
from rsfm_jax.models.build import init_params, merge
from rsfm_jax.train.flops import step_flops
from rsfm_jax.train.loop import run_training
from rsfm_jax.train.metrics import read_metrics
from rsfm_jax.train.probe import FLOPS_SHARE, make_probe, probe_every, probe_flops, score
from rsfm_jax.train.probe_set import ProbeSet, read_probe_set
from rsfm_jax.train.program import Program, make_program
from tests.helpers import records

BANDS = ("B02", "B03", "B04", "B08")
N = 20


@pytest.fixture
def fields(tiny_path: pathlib.Path) -> dict[str, Any]:
    """Real chips; the class is whether the near infrared is above the median."""
    rows = records(tiny_path, "series")[:N]
    values = np.stack([row["pixels_0"] * row["scale_0"] + row["offset_0"] for row in rows]).astype(np.float32)
    near = values[..., 3].mean(axis=(1, 2))
    order = np.argsort(np.argsort(near))
    both = {"labels": (order >= N // 2).astype(np.int64), "test": order % 3 == 0}
    return {"values": values, "sensor": "sentinel2_l3a", "bands": np.array(BANDS), "gsd_m": 10.0} | both


@pytest.fixture
def path(fields: dict[str, Any], tmp_path: pathlib.Path) -> str:
    np.savez(tmp_path / "probe.npz", **fields)
    return str(tmp_path / "probe.npz")


def made(config: Config, dataset: Dataset, path: str) -> tuple[Program, ProbeSet]:
    config.probe.path = path
    return make_program(config, dataset.layouts), read_probe_set(path, dataset)


@pytest.mark.parametrize("fsdp", [1, 4])
def test_figures_are_those_of_the_encoder_s_features(fsdp: int, tiny: Config, tiny_dataset: Dataset, path: str, fields: dict[str, Any]):
    tiny.parallel.fsdp = fsdp
    program, data = made(tiny, tiny_dataset, path)
    params = init_params(program.spec, 0)
    model = merge(program.model.graphdef, params)
    half_m = 16 * 10 / 2
    grid_m = jnp.tile(jnp.array([-half_m, half_m, 10.0, 10.0]), (N, 1))
    member = {"pixels": jnp.asarray(data.pixels), "valid": jnp.asarray(data.valid), "grid_m": grid_m, "time": jnp.zeros((N, 3))}
    place = {"geosot": jnp.zeros((N, 256), jnp.uint8), "lonlat_deg": jnp.zeros((N, 3))}
    features = np.asarray(model.encoder(data.layout, {"members": [member], "place": place})[0].mean(axis=1))
    learn = StandardScaler().fit(features[~data.test])
    train_X, test_X, train_y = learn.transform(features[~data.test]), learn.transform(features[data.test]), data.labels[~data.test]
    knn = KNeighborsClassifier(len(train_y), metric="cosine", weights=lambda d: np.exp((1 - d) / 0.07)).fit(train_X, train_y)
    ridge = Ridge(alpha=1e-2 * len(train_y), fit_intercept=False).fit(train_X, np.eye(2)[train_y] - np.eye(2)[train_y].mean(axis=0))
    guesses = {"probe_knn": knn.predict(test_X), "probe_linear": (ridge.predict(test_X) + np.eye(2)[train_y].mean(axis=0)).argmax(axis=1)}
    found = jax.device_get(make_probe(tiny, program, data)(params))
    expected = {name: float((guess == data.labels[data.test]).mean()) for name, guess in guesses.items()}
    assert {name: float(x) for name, x in found.items()} == pytest.approx(expected)
    np.testing.assert_array_equal(data.labels, fields["labels"])


def test_features_that_tell_the_classes_apart_are_seen(tiny_dataset: Dataset, path: str):
    data = read_probe_set(path, tiny_dataset)
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(N + 5, 8)).astype(np.float32)  # the last five are padding
    told = noise.copy()
    told[:N] += 20 * data.labels[:, None]
    assert {name: float(x) for name, x in score(jnp.asarray(told), data).items()} == {"probe_knn": 1.0, "probe_linear": 1.0}
    assert all(x < 1 for x in score(jnp.asarray(noise), data).values())


def test_it_is_logged_and_changes_nothing(tiny: Config, trained: pathlib.Path, fields: dict[str, Any], tmp_path: pathlib.Path):
    groups = [(fields["labels"] == label) & (fields["test"] == side) for label in (0, 1) for side in (False, True)]
    few = np.concatenate([np.flatnonzero(group)[:count] for group, count in zip(groups, (2, 1, 2, 1), strict=True)])
    np.savez(tmp_path / "few.npz", **fields | {name: fields[name][few] for name in ("values", "labels", "test")})
    tiny.probe.path, tiny.probe.every = str(tmp_path / "few.npz"), 20
    assert run_training(tiny, str(tmp_path / "run")) == 0
    ours, theirs = (read_metrics(epath.Path(run)) for run in (tmp_path / "run", trained))
    assert [row["loss"] for row in ours] == [row["loss"] for row in theirs]
    probed = {row["step"]: (row["probe_knn"], row["probe_linear"]) for row in ours if "probe_knn" in row}
    assert list(probed) == [20, 40]
    assert all(0 <= x <= 1 for both in probed.values() for x in both)
    assert sum(row.get("probe_s", 0) for row in ours) > 0


def test_how_often_it_comes_is_bounded_by_its_operations(tiny: Config, tiny_dataset: Dataset, path: str):
    program, data = made(tiny, tiny_dataset, path)
    step = 8 * min(step_flops(tiny, layout) for layout in tiny_dataset.layouts)
    assert probe_every(tiny, program, dataclasses.replace(data, labels=data.labels[:10])) == 100
    many = dataclasses.replace(data, labels=np.tile(data.labels, 100), pixels=data.pixels[:0])
    every = probe_every(tiny, program, many)
    assert every > 100
    assert probe_flops(tiny, many) / (every * step) <= FLOPS_SHARE < probe_flops(tiny, many) / ((every - 1) * step)
    tiny.probe.every = 1
    with pytest.raises(InputError, match=r"every=1: the probe of 20 chips would take .*% of the operations; give at least \d+"):
        probe_every(tiny, program, data)


def test_bands_that_the_set_lacks_are_without_observation(tiny_dataset: Dataset, path: str, fields: dict[str, Any], tmp_path: pathlib.Path):
    np.savez(tmp_path / "three.npz", **fields | {"bands": np.array(("B08", "B02", "B04")), "values": fields["values"][..., [3, 0, 2]]})
    three, four = read_probe_set(str(tmp_path / "three.npz"), tiny_dataset), read_probe_set(path, tiny_dataset)
    np.testing.assert_array_equal(three.pixels[..., [0, 2, 3]], four.pixels[..., [0, 2, 3]])
    assert not three.valid[..., 1].any()
    assert three.valid[..., [0, 2, 3]].all()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"labels": None}, "has no labels; it must hold values, labels, test"),
        ({"sensor": "naip"}, "the dataset has no naip with bands B02"),
        ({"values": np.zeros((N, 16, 16), np.float32)}, r"expected float \(N, H, W, C\)"),
        ({"labels": np.zeros(N)}, "do not belong together"),
        ({"labels": np.zeros(N, int)}, "needs two classes or more"),
        ({"values": np.full((N, 14, 14, 4), 0.1, np.float32)}, "chips are 14 x 14 pixels; expected squares of a multiple of the patch, 4"),
        ({"values": np.full((N, 16, 16, 4), 900.0, np.float32)}, "band B02 goes from 900 to 900, .* not digital numbers"),
        ({"valid": np.ones((N, 16, 16), bool)}, r"valid has shape \(20, 16, 16\)"),
    ],
)
def test_bad_sets(changes: dict[str, Any], said: str, fields: dict[str, Any], tiny_dataset: Dataset, tmp_path: pathlib.Path):
    file = tmp_path / "bad.npz"
    np.savez(file, **{name: value for name, value in (fields | changes).items() if value is not None})
    with pytest.raises(InputError, match=said):
        read_probe_set(str(file), tiny_dataset)


def test_a_file_that_is_none(tiny_dataset: Dataset, tmp_path: pathlib.Path):
    (tmp_path / "probe.npz").write_text("labels")
    for file in ("probe.npz", "nowhere.npz"):
        with pytest.raises(InputError, match=rf"config\.probe\.path=.*{file}: cannot be read as \.npz"):
            read_probe_set(str(tmp_path / file), tiny_dataset)
