"""The model over image sets: what reaches what, and that nothing in it is idle."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rsfm_jax.config import AugmentConfig, Config, LossConfig
from rsfm_jax.data.dataset import Dataset
from rsfm_jax.models.build import AbstractModel, abstract_model, count_params, init_params, merge
from rsfm_jax.models.mae import MAE
from rsfm_jax.models.spec import model_spec, slot_key
from rsfm_jax.nn.patchify import patchify
from rsfm_jax.train.step import loss_fn, predict, read_batch
from tests import tiny_config
from tests.helpers import batch_of, on_device

Params = dict[str, Any]
_CONFIG = tiny_config.get_config()
_SPEC = model_spec(_CONFIG, tiny_config.layouts())


@pytest.fixture(scope="module")
def model() -> AbstractModel:
    return abstract_model(_SPEC)


@pytest.fixture(scope="module")
def params() -> Params:
    return jax.jit(lambda: init_params(_SPEC, 0))()


def test_one_embedding_for_each_kind_of_slot():
    series, landsat = tiny_config.layouts()
    assert slot_key(series.slots[0]) == slot_key(series.slots[1]) == "sentinel2_l3a-B02-B03-B04-B08-p4"
    assert [slot_key(slot) for slot in _SPEC.slots] == sorted({slot_key(slot) for slot in series.slots + landsat.slots})
    assert model_spec(_CONFIG, (landsat, series)) == _SPEC


def test_shapes_without_allocating_are_those_of_the_parameters(model: AbstractModel, params: Params):
    assert jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), model.shapes) == jax.tree.map(lambda x: (x.shape, x.dtype), params)
    named = jax.tree.map(len, model.names, is_leaf=lambda x: isinstance(x, tuple))
    assert named == jax.tree.map(lambda x: x.ndim, params)
    assert count_params(model.shapes) == sum(x.size for x in jax.tree.leaves(params))


def test_initial_values_are_mae_s(params: Params):
    kernel = np.asarray(params["encoder"]["blocks"]["layers"]["mlp"]["fc1"]["kernel"])
    limit = np.sqrt(6 / (48 + 192))
    assert 0.95 * limit < abs(kernel).max() <= limit
    np.testing.assert_allclose(kernel.std(), limit / np.sqrt(3), rtol=0.05)
    np.testing.assert_allclose(np.std(params["decoder"]["mask_token"]), 0.02, rtol=0.5)
    assert not np.asarray(params["encoder"]["blocks"]["layers"]["mlp"]["fc1"]["bias"]).any()
    assert (np.asarray(params["encoder"]["norm"]["scale"]) == 1).all()
    again, other = (jax.jit(lambda seed=seed: init_params(_SPEC, seed))() for seed in (0, 1))
    for ours, same in zip(jax.tree.leaves(params), jax.tree.leaves(again), strict=True):
        np.testing.assert_array_equal(ours, same)
    assert (np.asarray(other["encoder"]["blocks"]["layers"]["mlp"]["fc1"]["kernel"]) != kernel).all()


def test_every_parameter_learns(model: AbstractModel, params: Params, tiny_dataset: Dataset):
    learns = jax.tree.map(lambda leaf: np.zeros(leaf.shape, bool), params)
    for layout in tiny_dataset.layouts:
        batch = batch_of(tiny_dataset, layout)
        for member in batch["members"]:
            member["time"][:2] = 0  # unknown dates and places have parameters of their own
        batch["place"]["lonlat_deg"][1:3] = 0
        batch["place"]["geosot"][:] = 1  # a place has some of the bits
        grads = jax.jit(jax.grad(lambda p, b, layout=layout: loss_fn(p, model, _CONFIG, layout, b)[0]))(params, batch)
        learns = jax.tree.map(lambda a, g: a | (np.asarray(g) != 0), learns, grads)
    idle = [jax.tree_util.keystr(path) for path, leaf in jax.tree_util.tree_leaves_with_path(learns) if leaf.mean() < 0.9]
    assert idle == []


def test_the_prediction_of_a_patch_is_in_its_own_place(model: AbstractModel, params: Params, tiny_dataset: Dataset):
    """With blocks that add nothing, a patch is predicted from its own token alone."""
    layout = tiny_dataset.layouts[0]
    view, masks = read_batch(_CONFIG, layout, on_device(batch_of(tiny_dataset, layout)))
    real = [jnp.ones((4, 16), bool)] * 2
    last = {("attn", "proj"), ("mlp", "fc2")}
    still = jax.tree_util.tree_map_with_path(
        lambda path, x: jnp.zeros_like(x) if tuple(key.key for key in path[-3:-1]) in last else x, params["decoder"]["blocks"]
    )
    mae = merge(model.graphdef, params | {"decoder": params["decoder"] | {"blocks": still}})

    def predicted(encoded: jax.Array) -> jax.Array:
        return jnp.stack(mae.decoder(layout, view.batch, encoded, masks, real), axis=1)  # (B, T, N, P)

    encoded, _ = mae.encoder(layout, view.batch, masks.ids_keep, masks.shown)
    assert encoded.shape[1] == 8
    for t, place in ((0, 2), (1, 1)):  # the third visible patch of the first member, the second of the second
        changed = encoded.at[:, 4 * t + place].add(1.0 + jnp.arange(48.0))
        moved = np.asarray(abs(predicted(changed) - predicted(encoded)).max(axis=-1) > 1e-6)
        for b in range(4):
            assert np.argwhere(moved[b]).tolist() == [[t, int(masks.ids_keep[t][b, place])]]


@pytest.fixture(scope="module")
def encode(model: AbstractModel, params: Params) -> Any:
    mae: MAE = merge(model.graphdef, params)
    layout = tiny_config.layouts()[0]
    return jax.jit(lambda batch: mae.encoder(layout, batch)[0])


def with_first(batch: dict[str, Any], **fields: Any) -> dict[str, Any]:
    """The batch with other values in its first member."""
    return batch | {"members": [batch["members"][0] | fields, *batch["members"][1:]]}


def test_members_see_each_other(encode: Any, tiny_dataset: Dataset):
    batch = batch_of(tiny_dataset, tiny_dataset.layouts[0])
    changed = with_first(batch, pixels=batch["members"][0]["pixels"] + 1)
    assert (abs(encode(batch) - encode(changed))[:, 16:].max(axis=-1) > 1e-5).all()


@pytest.mark.parametrize("field", ["time", "grid_m"])
def test_the_encoder_is_told_date_and_ground(encode: Any, tiny_dataset: Dataset, field: str):
    batch = batch_of(tiny_dataset, tiny_dataset.layouts[0])
    first = batch["members"][0][field]
    for column in range(first.shape[1]):
        change = np.zeros_like(first)
        change[:, column] = -1.0 if field == "time" and column == 0 else 40.0
        assert abs(encode(batch) - encode(with_first(batch, **{field: first + change}))).max() > 1e-3


def test_the_encoder_is_told_the_place(encode: Any, tiny_dataset: Dataset):
    batch = batch_of(tiny_dataset, tiny_dataset.layouts[0])
    place = batch["place"]
    for other in (place | {"geosot": 1 - place["geosot"]}, place | {"lonlat_deg": np.zeros_like(place["lonlat_deg"])}):
        assert (abs(encode(batch) - encode(batch | {"place": other})).max(axis=(1, 2)) > 1e-3).all()


def test_what_an_unknown_date_or_place_holds_does_not_matter(encode: Any, tiny_dataset: Dataset):
    batch = batch_of(tiny_dataset, tiny_dataset.layouts[0])
    batch["members"][0]["time"][:] = 0.0
    batch["place"]["lonlat_deg"][:] = 0.0
    changed = with_first(batch, time=np.array(batch["members"][0]["time"]) + np.float32([0, 1990, 77]))
    changed["place"] = {"lonlat_deg": batch["place"]["lonlat_deg"] + np.float32([0, 7, 50]), "geosot": 1 - batch["place"]["geosot"]}
    np.testing.assert_array_equal(encode(batch), encode(changed))


def test_the_loss_is_the_mean_over_slots(model: AbstractModel, params: Params, tiny_dataset: Dataset):
    config: Config = tiny_config.get_config()
    layout = tiny_dataset.layouts[1]
    batch = batch_of(tiny_dataset, layout)
    loss, metrics = jax.jit(lambda p, b: loss_fn(p, model, config, layout, b))(params, batch)
    np.testing.assert_allclose(loss, np.mean(metrics["slot_losses"]), rtol=1e-6)
    np.testing.assert_allclose(np.mean(metrics["example_errors"]), loss, rtol=1e-5)
    _, masks = read_batch(config, layout, on_device(batch))
    np.testing.assert_allclose(metrics["slot_leaks"], [leak.mean() for leak in masks.leaks], rtol=1e-6)
    batch["members"][2]["valid"][:] = False  # a member that nobody observed
    loss, metrics = jax.jit(lambda p, b: loss_fn(p, model, config, layout, b))(params, batch)
    assert metrics["slot_losses"][2] == 0
    np.testing.assert_allclose(loss, np.mean(metrics["slot_losses"][:2]), rtol=1e-6)


def test_crops_and_flips_change_what_is_learned_from_and_keep_the_invalid_out(model: AbstractModel, params: Params, tiny_dataset: Dataset):
    config, layout = tiny_config.get_config(), tiny_dataset.layouts[0]
    batch = batch_of(tiny_dataset, layout)
    plain = float(jax.jit(lambda p, b: loss_fn(p, model, config, layout, b)[0])(params, batch))
    config.augment = AugmentConfig(crop_min_area=0.2, flip="dihedral")
    augmented = jax.jit(lambda p, b: loss_fn(p, model, config, layout, b)[0])
    batch["members"][0]["valid"][:, 5:9, 2:6] = False
    loss = float(augmented(params, batch))
    assert 0.5 < loss < 3
    assert abs(loss - plain) > 1e-3
    batch["members"][0]["pixels"][:, 5:9, 2:6] = np.nan
    assert float(augmented(params, batch)) == loss


def test_without_norm_pix_the_loss_is_the_error_of_the_values(model: AbstractModel, params: Params, tiny_dataset: Dataset):
    config, layout = tiny_config.get_config(), tiny_dataset.layouts[0]
    config.loss = LossConfig(norm_pix=False)
    batch = on_device(batch_of(tiny_dataset, layout))
    view, masks = read_batch(config, layout, batch)
    errors = []
    parts = zip(layout.slots, view.batch["members"], predict(model, params, view, masks), masks.hidden, strict=True)
    for slot, member, predicted, hidden in parts:
        assert np.asarray(member["valid"]).all()
        squares = np.square(np.asarray(predicted - patchify(member["pixels"], slot.patch))).mean(axis=-1)
        errors.append(squares[np.asarray(hidden)].mean())
    np.testing.assert_allclose(loss_fn(params, model, config, layout, batch)[0], np.mean(errors), rtol=1e-5)
