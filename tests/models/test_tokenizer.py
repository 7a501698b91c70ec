"""Kernels from wavelengths: what they depend on, that any optical sensor gets some, and how many bands there may be."""

from collections.abc import Sequence
import dataclasses
from typing import Any

from flax import nnx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rsfm_jax.config import Config, EncodingConfig, ModelConfig, TokenizerConfig
from rsfm_jax.errors import InputError
from rsfm_jax.layouts import Layout, Slot
from rsfm_jax.models.build import abstract_model, init_params, merge
from rsfm_jax.models.spec import ModelSpec, model_spec
from rsfm_jax.models.tokenizer import WAVE_WIDTH, WaveLinears, code_names, wave_codes
from rsfm_jax.sensors import SENSORS, Band, Sensor
from rsfm_jax.train.step import loss_fn

PATCH, WIDTH = 4, 32


def optical(name: str, centre_nm: float | None, width_nm: float | None) -> Band:
    return Band(name, "optical", 10.0, "reflectance", centre_nm, width_nm)


def sensor(name: str, *bands: Band) -> Sensor:
    return Sensor(name, "made up", {band.name: band for band in bands}, (bands[0].name,))


@pytest.fixture
def made_up(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Enters a sensor into the registry for one test and returns a slot of all its bands."""

    def enter(new: Sensor) -> Slot:
        monkeypatch.setitem(SENSORS, new.name, new)
        return slot(new.name, tuple(new.bands))

    return enter


def slot(sensor: str, bands: Sequence[str], pixels: int = 8) -> Slot:
    return Slot(sensor, tuple(bands), 10.0, pixels, PATCH)


def config() -> Config:
    sizes = ModelConfig(width=WIDTH, depth=1, heads=2, decoder_width=16, decoder_depth=1, decoder_heads=2, compute_dtype="float32")
    encoding = EncodingConfig("index", geo="none", time="none", identity="none", gsd=False)
    return Config(tokenizer=TokenizerConfig("wavelength"), encoding=encoding, model=sizes)


def spec_of(*slots: Slot) -> ModelSpec:
    return model_spec(config(), [Layout("all", (s,)) for s in slots])


def wave_linears(*slots: Slot, embeds: bool = True) -> WaveLinears:
    return WaveLinears(spec_of(*slots), WIDTH, embeds, jnp.float32, nnx.Rngs(0))


def mapping(linears: WaveLinears, of: Slot) -> tuple[np.ndarray, np.ndarray]:
    """Kernel and bias of a slot."""
    return jax.device_get(jax.jit(lambda: linears.weights(of))())


def kernels(linears: WaveLinears, of: Slot) -> np.ndarray:
    """Kernels of the bands, (C, patch x patch, D)."""
    weights, _ = mapping(linears, of)
    if not linears.embeds:
        weights = weights.T
    values = np.asarray(weights).reshape(PATCH * PATCH, len(of.bands), -1)
    return values.transpose(1, 0, 2)


def far_apart(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether two kernels differ by more than a tenth of their size."""
    return bool(np.std(a - b) > 0.1 * np.std(a))


def test_a_kernel_depends_on_wavelength_and_bandwidth(made_up: Any):
    slots = [made_up(sensor(f"s{i}", optical("x", *nm))) for i, nm in enumerate(((560.0, 35.0), (665.0, 35.0), (560.0, 105.0)))]
    assert [wave_codes(s) for s in slots] == [[(560.0, 35.0)], [(665.0, 35.0)], [(560.0, 105.0)]]
    linears = wave_linears(*slots)
    green, red, wide = (kernels(linears, s)[0] for s in slots)
    assert far_apart(green, red)
    assert far_apart(green, wide)


def test_wavelengths_are_told_apart_to_nanometres(made_up: Any):
    """Not in micrometres: the codes turn by a radian per nanometre at most."""
    slots = [made_up(sensor(f"s{nm}", optical("x", nm, 10.0))) for nm in (600, 601, 620)]
    linears = wave_linears(*slots)
    one, next_, far = (kernels(linears, s)[0] for s in slots)
    assert 0 < np.std(one - next_) < np.std(one - far)


def test_the_same_bands_of_another_sensor_have_the_same_kernels(made_up: Any):
    bands = SENSORS["sentinel2_l2a"].bands
    twin = made_up(sensor("twin", *(dataclasses.replace(bands[b], name=f"t{b}", gsd_m=3.0, unit="dn") for b in ("B02", "B08"))))
    ours = slot("sentinel2_l2a", ("B02", "B08"))
    for embeds in (True, False):
        linears = wave_linears(ours, twin, embeds=embeds)
        for mine, its in zip(mapping(linears, ours), mapping(linears, twin), strict=True):
            np.testing.assert_array_equal(mine, its)


@pytest.mark.parametrize("embeds", [True, False])
def test_permuting_bands_permutes_kernels(embeds: bool):
    straight, order = slot("sentinel2_l2a", ("B02", "B03", "B8A", "B12")), [2, 0, 3, 1]
    turned = slot("sentinel2_l2a", [straight.bands[i] for i in order])
    linears = wave_linears(straight, turned, embeds=embeds)
    ours, theirs = kernels(linears, straight), kernels(linears, turned)
    np.testing.assert_allclose(theirs, ours[order], atol=1e-5)
    assert far_apart(ours[0], ours[1])
    (_, bias), (_, turned_bias) = mapping(linears, straight), mapping(linears, turned)
    if embeds:
        np.testing.assert_allclose(turned_bias, bias, atol=1e-5)
    else:
        np.testing.assert_allclose(turned_bias.reshape(-1, 4), bias.reshape(-1, 4)[:, order], atol=1e-5)


def test_patches_are_multiplied_by_the_kernels_band_fastest():
    s = slot("sentinel2_l2a", ("B02", "B03", "B04"))
    linears = wave_linears(s)
    patches = np.random.default_rng(0).normal(size=(2, 5, PATCH * PATCH, 3)).astype(np.float32)
    expected = np.einsum("bkpc,cpd->bkd", patches, kernels(linears, s)) + mapping(linears, s)[1]
    np.testing.assert_allclose(linears(s, jnp.asarray(patches.reshape(2, 5, -1))), expected, atol=1e-4)


@pytest.fixture
def hyper(made_up: Any) -> Slot:
    """A slot of 200 bands, 400 to 2500 nm."""
    return made_up(sensor("hyper", *(optical(f"h{i}", nm, 10.0) for i, nm in enumerate(np.linspace(400, 2500, 200)))))


def test_embeddings_are_of_one_size_for_one_band_and_for_200(hyper: Slot):
    pan, rgb = slot("worldview2_pan", ("P",)), slot("naip", ("R", "G", "B"))
    linears = wave_linears(pan, rgb, hyper)
    sizes = {}
    for s in (pan, rgb, hyper):
        bands = len(s.bands)
        shared = jax.random.normal(jax.random.key(1), (4, 16, PATCH**2, 1))
        own = jax.random.normal(jax.random.key(2), (4, 16, PATCH**2, bands))
        values = (0.8**0.5 * shared + 0.2**0.5 * own).reshape(4, 16, -1)  # bands that go together, as those of real spectra do
        embedded = np.asarray(jax.jit(lambda x, s=s: linears(s, x))(values))
        assert embedded.shape == (4, 16, WIDTH)
        sizes[len(s.bands)] = embedded.std()
    xavier = np.sqrt(2 * PATCH**2 / (PATCH**2 + WIDTH))  # of a linear layer for one band
    for size in sizes.values():
        assert 0.4 * xavier < size < 1.4 * xavier, sizes


def test_predictions_are_of_one_size_for_one_band_and_for_200(hyper: Slot):
    pan = slot("worldview2_pan", ("P",))
    linears = wave_linears(pan, hyper, embeds=False)
    tokens = jax.random.normal(jax.random.key(1), (4, 16, WIDTH))
    few, many = (np.asarray(jax.jit(lambda x, s=s: linears(s, x))(tokens)) for s in (pan, hyper))
    assert many.shape == (4, 16, 200 * PATCH * PATCH)
    assert 0.7 < many.std() / few.std() < 1.4


def test_a_step_on_200_bands_is_finite_and_reaches_every_parameter(hyper: Slot):
    layout, spec, rng = Layout("one", (hyper,)), spec_of(hyper), np.random.default_rng(0)
    model, params = abstract_model(spec), jax.jit(lambda: init_params(spec, 0))()
    pixels = jnp.asarray(rng.normal(size=(2, 8, 8, 200)), jnp.float32)
    member = {"pixels": pixels, "valid": jnp.ones(pixels.shape, bool), "grid_m": jnp.ones((2, 4)), "time": jnp.zeros((2, 3))}
    batch = {"global_index": jnp.arange(2, dtype=jnp.uint32), "members": [member], "place": {}}
    loss, grads = jax.jit(jax.value_and_grad(lambda p: loss_fn(p, model, config(), layout, batch)[0]))(params)
    assert 0.5 < float(loss) < 5
    for path, grad in jax.tree_util.tree_leaves_with_path(grads):
        assert np.isfinite(grad).all(), path
        assert np.asarray(grad).any() or "['codes']" in jax.tree_util.keystr(path), path  # of radar and elevation


def test_one_set_of_parameters_serves_any_number_of_bands(hyper: Slot):
    shapes = [jax.tree.map(lambda x: x.shape, abstract_model(spec_of(s)).shapes) for s in (slot("worldview2_pan", ("P",)), hyper)]
    assert shapes[0] == shapes[1]


@pytest.mark.parametrize("missing", ["wavelength_nm", "bandwidth_nm"])
def test_an_optical_band_without_a_wavelength_is_named(made_up: Any, missing: str):
    lacking = dataclasses.replace(optical("gap", 560.0, 35.0), **{missing: None})
    s = made_up(sensor("bare", optical("fine", 490.0, 65.0), lacking))
    with pytest.raises(InputError, match=r"tokenizer\.kind='wavelength': band 'gap' of bare has no wavelength_nm and bandwidth_nm"):
        abstract_model(spec_of(s))


def test_polarisations_and_elevation_have_codes_of_their_own():
    assert code_names() == ["elevation", "sar_HH", "sar_HV", "sar_VH", "sar_VV"]
    radar, dem = slot("sentinel1_grd", ("VV", "VH")), slot("dem", ("elevation",))
    assert wave_codes(radar) == ["sar_VV", "sar_VH"]
    assert wave_codes(dem) == wave_codes(slot("dsm", ("elevation",))) == ["elevation"]
    linears = wave_linears(radar, dem)
    vertical, crossed = kernels(linears, radar)
    assert far_apart(vertical, crossed)
    graphdef, params = nnx.split(linears)

    def squares(params: nnx.State) -> jax.Array:
        return jnp.square(nnx.merge(graphdef, params).weights(radar)[0]).sum()

    grads = nnx.to_pure_dict(jax.jit(jax.grad(squares))(params))["codes"]
    assert {name for name, grad in grads.items() if np.asarray(grad).any()} == {"sar_VV", "sar_VH"}
    assert {grad.shape for grad in grads.values()} == {(1, WAVE_WIDTH)}


def test_an_invalid_band_has_no_influence():
    layout = Layout("one", (slot("sentinel2_l2a", ("B02", "B03", "B04")),))
    spec = spec_of(*layout.slots)
    mae = merge(abstract_model(spec).graphdef, jax.jit(lambda: init_params(spec, 0))())
    rng = np.random.default_rng(0)
    valid = np.ones((2, 8, 8, 3), bool)
    valid[..., 1] = False
    pixels = rng.normal(size=valid.shape).astype(np.float32)

    @jax.jit
    def encode(pixels: jax.Array, valid: jax.Array) -> jax.Array:
        member = {"pixels": pixels, "valid": valid, "grid_m": jnp.ones((2, 4)), "time": jnp.zeros((2, 3))}
        return mae.encoder(layout, {"members": [member], "place": {}})[0]

    expected = encode(pixels, valid)
    for filling in (0.0, 1e6, np.nan):
        np.testing.assert_array_equal(encode(np.where(valid, pixels, np.float32(filling)), valid), expected)
    assert abs(encode(pixels, np.ones_like(valid)) - expected).max() > 1e-2
    grad = np.asarray(jax.jit(jax.grad(lambda x: jnp.square(encode(x, valid) - 1).sum()))(pixels))
    assert not grad[..., 1].any()
    assert grad[..., [0, 2]].all()
