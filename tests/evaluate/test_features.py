"""Features of chips: what the encoder itself says, computed once; an untrained encoder; pixels and windows."""

import dataclasses

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="no CPU wheel of PyTorch for this Python")
pytest.importorskip("sklearn", reason="the extra that evaluates is not installed")

from rsfm_jax.errors import InputError  # noqa: E402
from rsfm_jax.evaluate.probing import features  # noqa: E402
from rsfm_jax.evaluate.probing.features import Model, baseline_features, encoder_features, load_model, random_model  # noqa: E402
from rsfm_jax.evaluate.samples.samples import Chips, Ground, Input  # noqa: E402
from rsfm_jax.evaluate.tasks.task import Baselines, Encoding  # noqa: E402
from tests.evaluate.small_scene import write_model  # noqa: E402
from tests.torch_side.small_encoder import RGBN, small_encoder  # noqa: E402

N, SIDE, BEFORE = 7, 12, 7


def make_chips(bands=RGBN) -> Chips:
    rng = np.random.default_rng(0)
    valid = np.ones((N, len(bands), SIDE, SIDE), bool)
    valid[0, :, :4] = False  # a row of patches without an observation
    values = np.where(valid, rng.random(valid.shape), 0).astype(np.float32)
    corners = np.array([[4.0, 45.0], [4.01, 45.0], [4.01, 44.99], [4.0, 44.99]]) + 0.1 * np.arange(N)[:, None, None]
    ground = Ground("EPSG:32631", np.arange(N) * 1.0, np.arange(N) * 1.0, corners)
    time = np.tile(np.array([1, 2020, 100], np.float32), (N, 1))
    return Chips(values, valid, (Input("sentinel2_l2a", bands, 10.0),), np.zeros(N, np.int64), time, ground, BEFORE)


@pytest.fixture(params=[True, False], ids=["class token", "no class token"])
def model(request) -> Model:
    return Model("small", small_encoder(cls_token=request.param), "digest", "folder")


def test_features_are_the_encoders_own(model):
    chips = make_chips()
    sets = encoder_features(model, chips, Encoding(layers=(1, -1), pooling=("mean", "token", "mean+token")), batch_size=3)
    assert [(one.keys["layer"], one.keys["pooling"]) for one in sets] == [(n, p) for n in (1, -1) for p in ("mean", "token", "mean+token")]
    assert chips.ground is not None
    one = {"sensor": "sentinel2_l2a", "bands": RGBN, "gsd_m": 10.0, "values": torch.from_numpy(chips.values)}
    one |= {"valid": torch.from_numpy(chips.valid), "time": torch.from_numpy(chips.time)}
    with torch.no_grad():
        out = model.encoder([one], torch.from_numpy(chips.ground.footprint_deg))
    np.testing.assert_allclose(sets[3].values, out.pooled, atol=1e-5)
    np.testing.assert_allclose(sets[4].values, out.grids[0][:, :, BEFORE // 4, BEFORE // 4], atol=1e-5)
    np.testing.assert_array_equal(sets[5].values, np.concatenate([sets[3].values, sets[4].values], axis=1))
    assert not np.allclose(sets[0].values, sets[3].values, atol=1e-2)


def test_what_the_encoder_is_told_matters(model):
    chips = make_chips()
    told = encoder_features(model, chips, Encoding())[0].values
    for less in (Encoding(location=False), Encoding(date=False)):
        assert not np.allclose(encoder_features(model, chips, less)[0].values, told, atol=1e-4)


def test_features_are_kept(model, tmp_path, monkeypatch):
    chips, asked = make_chips(), Encoding(pooling=("mean",))
    first = encoder_features(model, chips, asked, tmp_path)[0].values
    assert len(list(tmp_path.iterdir())) == 1

    def refuse(*_):
        raise AssertionError("computed again")

    monkeypatch.setattr(features, "_encode", refuse)
    np.testing.assert_array_equal(encoder_features(model, chips, asked, tmp_path)[0].values, first)
    encoder_features(model, chips, Encoding(pooling=("token",)), tmp_path)  # both poolings are kept together
    changed = chips.values.copy()
    changed[3, 0, 5, 5] += 1e-3
    others = [
        (dataclasses.replace(model, digest="other"), chips, asked),
        (model, dataclasses.replace(chips, values=changed), asked),
        (model, dataclasses.replace(chips, before=3), asked),
        (model, chips, Encoding(layers=(0,))),
        (model, chips, Encoding(date=False)),
    ]
    for other in others:
        with pytest.raises(AssertionError, match="computed again"):
            encoder_features(*other, tmp_path)


def test_an_untrained_encoder(model):
    state = torch.random.get_rng_state()
    one, same, other = (random_model(model, seed, "cpu") for seed in (0, 0, 1))
    assert torch.equal(torch.random.get_rng_state(), state)
    weights, again = one.encoder.state_dict(), same.encoder.state_dict()
    assert all(torch.equal(weights[name], again[name]) for name in weights)
    assert len({model.digest, one.digest, other.digest}) == 3
    assert not torch.equal(weights["blocks.0.mlp.fc1.weight"], other.encoder.state_dict()["blocks.0.mlp.fc1.weight"])
    limit = (6 / sum(weights["blocks.0.mlp.fc1.weight"].shape)) ** 0.5
    assert 0.95 * limit < weights["blocks.0.mlp.fc1.weight"].abs().max() <= limit
    assert not weights["blocks.0.attn.qkv.bias"].any()
    assert 0.005 < weights["encodings.slot.sentinel2_l2a-p4"].std() < 0.05
    assert np.isfinite(encoder_features(one, make_chips(), Encoding())[0].values).all()


def test_pixels_and_windows():
    chips = make_chips()
    raw, context = baseline_features(chips, Baselines(raw_px=3, statistics_px=(5, 99)))
    np.testing.assert_allclose(raw.values, chips.values[:, :, 6:9, 6:9].reshape(N, -1))  # the sample's pixel, 7, in the middle
    window, whole = chips.values[1, :, 5:10, 5:10].reshape(4, -1), chips.values[1].reshape(4, -1)
    by_hand = [chips.values[1, :, 7, 7], window.mean(axis=1), window.std(axis=1), whole.mean(axis=1), whole.std(axis=1)]
    np.testing.assert_allclose(context.values[1], np.concatenate(by_hand), rtol=1e-5)
    seen = chips.values[0][:, 4:].reshape(4, -1)
    np.testing.assert_allclose(context.values[0, -8:-4], seen.mean(axis=1), rtol=1e-5)  # what was not observed does not count
    assert context.filled == 4 * 4 * SIDE


@pytest.mark.parametrize(
    ("chips", "encoding", "message"),
    [
        (
            dataclasses.replace(make_chips(), inputs=(Input("naip", ("R",), 1.0),)),
            Encoding(),
            "sensor 'naip' .* it knows landsat8_l1 .*patch 8",
        ),
        (make_chips(("B02", "B11")), Encoding(), "B02, B11 are not together in one group; the groups are: B02, B03, B04, B08"),
        (make_chips(), Encoding(layers=(4,)), "encoding.layers has 4; the encoder has 4 blocks, expected -4 to 3"),
        (make_chips(), Encoding(patch=8), "with patch 8 is not known"),
        (dataclasses.replace(make_chips(), values=2000 * make_chips().values), Encoding(), "are they raw digital numbers"),
    ],
)
def test_what_a_model_does_not_take_is_named(chips, encoding, message):
    model = Model("small", small_encoder(), "digest", "weights")
    with pytest.raises(InputError, match=rf"--model=weights: .*{message}"):
        encoder_features(model, chips, encoding)
    odd = dataclasses.replace(make_chips(), values=np.ones((N, 4, 10, 10), np.float32), valid=np.ones((N, 4, 10, 10), bool))
    with pytest.raises(InputError, match="chips of 10 pixels are no multiple of its patch, 4"):
        encoder_features(model, odd, Encoding())


def test_a_folder_that_is_no_model(tmp_path):
    with pytest.raises(InputError, match=r"holds no config\.json; give the folder that python -m rsfm_jax\.export"):
        load_model(tmp_path, "x", "cpu")
    folder = write_model(tmp_path / "weights")
    assert load_model(folder, "x", "cpu").name == "x"
    (folder / "model.safetensors").write_bytes(b"broken")
    with pytest.raises(InputError, match="its SHA-256 is"):
        load_model(folder, "x", "cpu")
    (folder / "config.json").write_text("{}")
    with pytest.raises(InputError, match="is not of the format rsfm"):
        load_model(folder, "x", "cpu")
