"""Parts of the encodings where a published layout says which values stand where."""

from typing import Any

from flax import nnx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import a2mae
from rsfm_jax.config import Config, EncodingConfig, ModelConfig, TokenizerConfig
from rsfm_jax.errors import InputError
from rsfm_jax.layouts import Layout, Slot
from rsfm_jax.models.build import AbstractModel, abstract_model, init_params, merge
from rsfm_jax.models.encodings import Encodings, position_dims
from rsfm_jax.models.spec import model_spec
from rsfm_jax.train.step import loss_fn

BANDS = ("B02", "B03")


def layout_of(*slots: Slot) -> Layout:
    return Layout("some", slots)


def slot(gsd_m: float, pixels: int = 8, bands: tuple[str, ...] = BANDS) -> Slot:
    return Slot("sentinel2_l2a", bands, gsd_m, pixels, 4)


def config(width: int, tokenizer: TokenizerConfig | None = None, **encoding: Any) -> Config:
    known = {"geo": "none", "time": "none", "identity": "none", "gsd": False} | encoding
    return Config(tokenizer=tokenizer or TokenizerConfig(), encoding=EncodingConfig(**known), model=ModelConfig(width=width, heads=8))


def batch(layout: Layout, seed: int = 0) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    members = [
        {
            "valid": np.ones((2, s.pixels, s.pixels, len(s.bands)), bool),
            "grid_m": np.float32([[-40, 40, s.gsd_m, s.gsd_m], [-50, 30, s.gsd_m + 1, s.gsd_m + 2]]),
            "time": np.float32([[1, 2016, 60.5], [1, 2019, 0.25]]),
        }
        for s in layout.slots
    ]
    place = {"geosot": rng.integers(0, 2, (2, 256)).astype(np.uint8), "lonlat_deg": np.float32([[1, 10, 50], [0, 0, 0]])}
    return jax.tree.map(jnp.asarray, {"members": members, "place": place})


def sincos(position: np.ndarray, dim: int) -> np.ndarray:
    angle = np.asarray(position, np.float64)[..., None] / 10000.0 ** (np.arange(dim // 2) / (dim // 2))
    return np.concatenate([np.sin(angle), np.cos(angle)], axis=-1)


@pytest.mark.parametrize("coordinates", [1, 2, 4])
def test_coordinates_share_the_width_equally(coordinates: int):
    assert position_dims("metres", 64, coordinates) == (64 // coordinates,) * coordinates


def test_three_dimensional_positions_share_the_width_as_6_6_4():
    assert position_dims("3d", 64, 3) == (24, 24, 16)
    assert position_dims("3d", 1024, 3) == (384, 384, 256)


def test_the_released_layout_is_256_bits_then_256_values_for_each_member():
    layout = layout_of(slot(10.0), slot(30.0))
    spec = model_spec(config(768, positions="a2mae_released", geo="a2mae_released"), [layout])
    given = batch(layout)
    encodings = Encodings(spec, 768, False, nnx.Rngs(0))
    first, second = (np.asarray(encodings(layout, given, t, None)) for t in range(2))
    np.testing.assert_array_equal(first, second)  # all members' grids are told to every member
    assert first.shape == (2, 4, 768)
    np.testing.assert_array_equal(first[0, :, :256], np.broadcast_to(given["place"]["geosot"][0], (4, 256)))
    np.testing.assert_array_equal(first[1, :, :256], np.broadcast_to(encodings.place.unknown[...], (4, 256)))
    column, row = np.array([0, 1, 0, 1]), np.array([0, 0, 1, 1])
    for b in range(2):
        parts = [sincos(index * float(m["grid_m"][b, 2 + axis]), 128) for m in given["members"] for axis, index in enumerate((column, row))]
        np.testing.assert_allclose(first[b, :, 256:], np.concatenate(parts, axis=-1), atol=1e-4)


@pytest.fixture(scope="module")
def released() -> tuple[Config, Layout, AbstractModel, dict[str, Any]]:
    """The released experiment for three members, as narrow as it may be and one block deep."""
    config, layout = a2mae.get_config("vit_l_released"), layout_of(slot(10.0), slot(20.0), slot(60.0))
    sizes = {"heads": 4, "decoder_width": 64, "decoder_heads": 4, "compute_dtype": "float32", "remat": "none"}
    config.model = ModelConfig(width=256 * 4, depth=1, decoder_depth=1, mlp_ratio=1.0, **sizes)
    spec = model_spec(config.validate(), [layout])
    return config, layout, abstract_model(spec), jax.jit(lambda: init_params(spec, 0))()


def test_the_released_decoder_is_told_the_index_times_gsd_of_the_member_alone(released: tuple[Config, Layout, AbstractModel, Any]):
    _, layout, model, params = released
    encodings, given = merge(model.graphdef, params).decoder.encodings, batch(layout)
    column, row = np.array([0, 1, 0, 1]), np.array([0, 0, 1, 1])
    for t, member in enumerate(given["members"]):
        found = np.asarray(encodings(layout, given, t, None))
        for b in range(2):
            width_m, height_m = (float(side) for side in member["grid_m"][b, 2:])
            expected = np.concatenate([sincos(column * width_m, 32), sincos(row * height_m, 32)], axis=-1)
            np.testing.assert_allclose(found[b], expected, atol=1e-4)


def test_a_step_of_the_released_layout_is_finite_and_reaches_every_parameter(released: tuple[Config, Layout, AbstractModel, Any]):
    config, layout, model, params = released
    rng, given = np.random.default_rng(0), batch(layout)
    for member in given["members"]:
        member["pixels"] = jnp.asarray(rng.normal(size=member["valid"].shape), jnp.float32)
    given["global_index"] = jnp.arange(2, dtype=jnp.uint32)
    loss, grads = jax.jit(jax.value_and_grad(lambda p: loss_fn(p, model, config, layout, given)[0]))(params)
    assert 0.5 < float(loss) < 5
    for path, grad in jax.tree_util.tree_leaves_with_path(grads):
        assert np.isfinite(grad).all(), path
        assert np.asarray(grad).any(), path


def test_the_released_layout_asks_for_its_width_and_for_one_grid():
    released = {"positions": "a2mae_released", "geo": "a2mae_released"}
    with pytest.raises(InputError, match=r"needs model\.width=768 for 2 members .* not 1024; geo='a2mae' has no such limit"):
        model_spec(config(1024, **released), [layout_of(slot(10.0), slot(30.0))])
    with pytest.raises(InputError, match=r"layout 'some' must have 2 members of one patch grid, it has 2 with \[2, 4\] patches a side"):
        model_spec(config(768, **released), [layout_of(slot(10.0), slot(30.0, 16))])


def test_satmae_codes_the_date_in_three_eighths_of_the_width():
    layout = layout_of(slot(10.0))
    spec = model_spec(config(64, positions="index", time="satmae"), [layout])
    found = np.asarray(Encodings(spec, 64, False, nnx.Rngs(0))(layout, batch(layout), 0, None))
    row, column = np.mgrid[:2, :2].reshape(2, -1)
    np.testing.assert_allclose(found[0, :, :40], np.concatenate([sincos(column, 20), sincos(row, 20)], axis=-1), atol=1e-5)
    for b, (year, month, hour) in enumerate(((2016, 2, 12), (2019, 0, 6))):  # 1 March 2016 at noon, 1 January 2019 at six
        expected = np.concatenate([sincos(np.array(x), 8) for x in (year - 2002, month, hour)])
        np.testing.assert_allclose(found[b, :, 40:], np.broadcast_to(expected, (4, 24)), atol=1e-5)


def test_satmae_codes_the_number_of_the_group_in_a_quarter_of_the_width():
    layout = layout_of(slot(10.0, bands=("B02", "B03", "B05")))
    split = TokenizerConfig(groups=("sentinel2_l2a: B02 B03 | B05",))
    spec = model_spec(config(64, split, positions="index", identity="satmae"), [layout])
    tokens = layout_of(*(slot(10.0, bands=bands) for bands in (("B02", "B03"), ("B05",))))
    encodings = Encodings(spec, 64, False, nnx.Rngs(0))
    for number in range(2):
        found = np.asarray(encodings(tokens, batch(tokens), number, None))
        np.testing.assert_allclose(found[..., 48:], np.broadcast_to(sincos(np.array(number), 16), (2, 4, 16)), atol=1e-6)


def test_asked_for_some_patches_the_encodings_are_those_of_all():
    layout = layout_of(slot(10.0), slot(30.0, 16))
    spec = model_spec(Config(model=ModelConfig(width=64, heads=8)), [layout])
    encodings, given, ids = Encodings(spec, 64, False, nnx.Rngs(0)), batch(layout), jnp.array([[3, 0], [1, 2]])
    for t in range(2):
        whole, some = encodings(layout, given, t, None), encodings(layout, given, t, ids)
        np.testing.assert_allclose(some, jnp.take_along_axis(whole, ids[..., None], axis=1), atol=1e-6)
