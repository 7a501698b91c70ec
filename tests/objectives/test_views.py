"""What the model reads of a batch: members split into token slots, bands and metadata withheld at their probabilities."""

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rsfm_jax.config import Config, EncodingConfig, TokenizerConfig
from rsfm_jax.errors import InputError
from rsfm_jax.layouts import Layout, Slot
from rsfm_jax.models.spec import ANY_BAND, token_layout
from rsfm_jax.objectives.views import View, choose_bands, keep_bands, whole_view, withhold

BANDS = ("B02", "B03", "B04", "B08")
LAYOUT = Layout("pair", (Slot("sentinel2_l2a", BANDS, 10.0, 4, 2), Slot("sentinel1_grd", ("VV", "VH"), 10.0, 4, 2)))


def keys(count: int, seed: int = 0) -> jax.Array:
    return jax.random.split(jax.random.key(seed), count)


def batch(count: int, seed: int = 0) -> dict[str, Any]:
    """Values that tell example, member, pixel and band; most of them valid."""
    rng = np.random.default_rng(seed)
    members = []
    for slot in LAYOUT.slots:
        shape = (count, slot.pixels, slot.pixels, len(slot.bands))
        known = {
            "grid_m": rng.normal(size=(count, 4)),
            "time": np.stack([np.ones(count), rng.uniform(2000, 2020, count), np.ones(count)], 1),
        }
        pixels = rng.permutation(np.prod(shape)).reshape(shape)
        members.append({"pixels": pixels, **known})
    place = {"geosot": rng.integers(0, 2, (count, 256)), "lonlat_deg": np.stack([np.ones(count), *rng.uniform(1, 50, (2, count))], 1)}
    floats = jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), members)
    valid = [rng.random(member["pixels"].shape) < 0.9 for member in members]
    return {
        "members": [member | {"valid": jnp.asarray(v)} for member, v in zip(floats, valid, strict=True)],
        "place": {"geosot": jnp.asarray(place["geosot"], jnp.uint8), "lonlat_deg": jnp.asarray(place["lonlat_deg"], jnp.float32)},
    }


def config(**fields: Any) -> Config:
    """A config of band dropout and metadata dropout."""
    band_dropout, encoding = fields.pop("band_dropout", 0.0), {"metadata_dropout": 0.0} | fields.pop("encoding", {})
    return Config(tokenizer=TokenizerConfig(band_dropout=band_dropout, **fields), encoding=EncodingConfig(**encoding))


def view_of(config: Config, examples: dict[str, Any], keys_B: jax.Array) -> View:
    return withhold(config, keys_B, whole_view(config, LAYOUT, keys_B, examples))


def test_a_view_without_knobs_is_the_batch_itself():
    examples = batch(3)
    view = view_of(config(), examples, keys(3))
    assert view.layout == LAYOUT
    assert view.sources == (0, 1)
    jax.tree.map(np.testing.assert_array_equal, view.batch, examples)
    jax.tree.map(np.testing.assert_array_equal, view.valid, [member["valid"] for member in examples["members"]])


def test_groups_split_the_columns_of_their_member():
    lines = ("sentinel2_l2a: B04 B02 | B11 | B08 B03", "sentinel1_grd: VV | VH")
    examples = batch(3)
    view = view_of(config(groups=lines), examples, keys(3))
    assert [slot.bands for slot in view.layout.slots] == [("B04", "B02"), ("B08", "B03"), ("VV",), ("VH",)]
    assert view.sources == (0, 0, 1, 1)
    assert view.layout.acquisitions() == [[0, 1], [2, 3]]
    for slot, member, valid, source in zip(view.layout.slots, view.batch["members"], view.valid, view.sources, strict=True):
        whole, names = examples["members"][source], LAYOUT.slots[source].bands
        for column, band in enumerate(slot.bands):
            np.testing.assert_array_equal(member["pixels"][..., column], whole["pixels"][..., names.index(band)])
            np.testing.assert_array_equal(valid[..., column], whole["valid"][..., names.index(band)])
        for name in ("grid_m", "time"):
            np.testing.assert_array_equal(member[name], whole[name])


def test_a_band_that_no_group_holds_is_named():
    with pytest.raises(InputError, match=r"no group of sentinel2_l2a holds B03, B08, which the dataset's slots have"):
        token_layout(LAYOUT, TokenizerConfig(groups=("sentinel2_l2a: B04 | B02",)))


def test_random_bands_take_pixels_and_validity_together():
    examples = batch(40)
    view = view_of(config(kind="random3"), examples, keys(40))
    assert [slot.bands for slot in view.layout.slots] == [(ANY_BAND,) * 3] * 2
    for t, member in enumerate(view.batch["members"]):
        whole = examples["members"][t]
        same = (member["pixels"][..., :, None] == whole["pixels"][..., None, :]).all(axis=(1, 2))  # values are all different
        chosen = np.asarray(same.argmax(axis=-1))
        assert same.any(axis=-1).all()
        np.testing.assert_array_equal(member["valid"], np.take_along_axis(whole["valid"], chosen[:, None, None], axis=-1))
        assert len({tuple(row) for row in chosen}) > (1 if t else 10)


@settings(max_examples=20, deadline=None)
@given(bands=st.sampled_from([1, 2, 3, 13]), seed=st.integers(0, 2**30))
def test_three_bands_are_drawn_and_differ_where_there_are_three(bands: int, seed: int):
    for row in np.asarray(choose_bands(keys(16, seed), bands)).tolist():
        assert len(row) == 3
        assert set(row) <= set(range(bands))
        assert len(set(row)) == min(bands, 3)
        if bands < 3:
            assert row[bands:] == row[: 3 - bands]  # all in turn, then from the first again


def test_every_band_is_drawn_as_often_in_every_place():
    drawn = np.asarray(choose_bands(keys(4000), 5))
    for place in range(3):
        counts = np.bincount(drawn[:, place], minlength=5)
        assert abs(counts - 800).max() < 5 * np.sqrt(4000 * 0.2 * 0.8)


@settings(max_examples=20, deadline=None)
@given(bands=st.sampled_from([1, 2, 13]), dropout=st.floats(0.01, 0.99), seed=st.integers(0, 2**30))
def test_one_band_always_stays(bands: int, dropout: float, seed: int):
    kept = np.asarray(keep_bands(keys(64, seed), bands, dropout))
    assert kept.shape == (64, bands)
    assert kept.any(axis=1).all()


@pytest.mark.parametrize("dropout", [0.1, 0.5])
def test_bands_are_dropped_at_their_probability(dropout: float):
    bands, count = 8, 4000
    kept = np.asarray(keep_bands(keys(count), bands, dropout))
    expected = dropout - dropout**bands / bands  # the last one of those that would all be dropped stays
    assert abs((~kept).mean(axis=0) - expected).max() < 5 * np.sqrt(dropout * (1 - dropout) / count)
    together = np.corrcoef(kept.T)[~np.eye(bands, dtype=bool)]
    assert abs(together).max() < 0.1  # one band's fate says nothing of another's


def test_withheld_bands_are_hidden_from_the_model_whole_and_are_still_scored():
    examples = batch(64)
    view = view_of(config(band_dropout=0.5), examples, keys(64))
    for member, valid, whole in zip(view.batch["members"], view.valid, examples["members"], strict=True):
        np.testing.assert_array_equal(valid, whole["valid"])  # what the loss reads
        np.testing.assert_array_equal(member["pixels"], whole["pixels"])
        kept_BC = np.asarray(member["valid"]).any(axis=(1, 2))
        np.testing.assert_array_equal(member["valid"], whole["valid"] & kept_BC[:, None, None, :])
        assert 0 < kept_BC.mean() < 1
        assert kept_BC.any(axis=1).all()


def test_members_lose_bands_and_dates_apart_from_each_other():
    view = view_of(config(band_dropout=0.5, encoding={"metadata_dropout": 0.5}), batch(2000), keys(2000))
    first, second = (np.asarray(member["valid"]).any(axis=(1, 2))[:, 0] for member in view.batch["members"])
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.12
    dates = np.stack([member["time"][:, 0] for member in view.batch["members"]] + [view.batch["place"]["lonlat_deg"][:, 0]])
    assert abs(np.corrcoef(dates)[~np.eye(3, dtype=bool)]).max() < 0.12


@pytest.mark.parametrize("dropout", [0.1, 0.5])
def test_places_and_dates_are_forgotten_at_their_probability(dropout: float):
    examples, count = batch(3000), 3000
    view = view_of(config(encoding={"metadata_dropout": dropout}), examples, keys(count))
    pairs = [(view.batch["place"]["lonlat_deg"], examples["place"]["lonlat_deg"])]
    pairs += [(ours["time"], theirs["time"]) for ours, theirs in zip(view.batch["members"], examples["members"], strict=True)]
    for found, given_ in pairs:
        forgotten = np.asarray(found[:, 0] == 0)
        assert abs(forgotten.mean() - dropout) < 5 * np.sqrt(dropout * (1 - dropout) / count)
        assert not np.asarray(found)[forgotten].any()
        np.testing.assert_array_equal(np.asarray(found)[~forgotten], np.asarray(given_)[~forgotten])


def test_token_slots_of_one_member_forget_its_date_together():
    lines = ("sentinel2_l2a: B02 | B03 | B04 | B08",)
    view = view_of(config(groups=lines, encoding={"metadata_dropout": 0.5}), batch(64), keys(64))
    dates = [member["time"] for member in view.batch["members"]]
    for other in dates[1:4]:
        np.testing.assert_array_equal(dates[0], other)
    assert 0 < dates[0][:, 0].mean() < 1
    assert (dates[0][:, 0] != dates[4][:, 0]).any()


def test_what_the_model_is_never_told_needs_no_dropout():
    examples = batch(64)
    view = view_of(config(encoding={"metadata_dropout": 0.9, "geo": "none", "time": "none"}), examples, keys(64))
    jax.tree.map(np.testing.assert_array_equal, view.batch, examples)


def test_all_draws_are_a_function_of_the_key_alone():
    """Neither the row, nor the rest of the batch, nor what it holds has a say."""
    order = np.random.default_rng(3).permutation(64)
    for knobs in ({"band_dropout": 0.5, "encoding": {"metadata_dropout": 0.5}}, {"kind": "random3", "band_dropout": 0.5}):
        settings_, examples, drawn = config(**knobs), batch(64), keys(64)
        ours = view_of(settings_, examples, drawn).batch
        theirs = view_of(settings_, jax.tree.map(lambda x: x[order], examples), drawn[order]).batch
        jax.tree.map(lambda a, b: np.testing.assert_array_equal(a[order], b), ours, theirs)
        other = view_of(settings_, batch(64, seed=9), drawn).batch
        assert (ours["place"]["lonlat_deg"][:, 0] == other["place"]["lonlat_deg"][:, 0]).all()
        for a, b in zip(ours["members"], other["members"], strict=True):
            np.testing.assert_array_equal(a["time"][:, 0], b["time"][:, 0])
            np.testing.assert_array_equal(a["valid"].any(axis=(1, 2)), b["valid"].any(axis=(1, 2)))
        assert (view_of(settings_, examples, keys(64, seed=1)).batch["members"][0]["valid"] != ours["members"][0]["valid"]).any()
