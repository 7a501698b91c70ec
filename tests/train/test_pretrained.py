"""Training that starts from published weights: what is taken, what is not, and that the model then computes what its original does."""

import dataclasses
import pathlib
import re
import shutil
import subprocess
import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="no CPU wheel of PyTorch for this Python")
pytest.importorskip("transformers", reason="transformers isn't installed; it writes the weights to start from")

from benchmarks.parity_mae import plain_mae, reference  # noqa: E402
from rsfm_jax.config import Config, EncodingConfig, ModelConfig, TokenizerConfig  # noqa: E402
from rsfm_jax.data.dataset import Dataset  # noqa: E402
from rsfm_jax.errors import InputError  # noqa: E402
from rsfm_jax.layouts import Layout, Slot  # noqa: E402
from rsfm_jax.models.build import Params, abstract_model, init_params, merge  # noqa: E402
from rsfm_jax.models.spec import ModelSpec, model_spec  # noqa: E402
from rsfm_jax.objectives.masking import Masks  # noqa: E402
from rsfm_jax.train.loop import Trainer, run_training  # noqa: E402
from rsfm_jax.train.pretrained import load_published  # noqa: E402
from tests.helpers import REPO  # noqa: E402

PATCH = 4
MODEL = ModelConfig(48, 2, 3, 24, 1, 3, cls_token=True, compute_dtype="float32", remat="none")
RGBN = Slot("sentinel2_l3a", ("B02", "B03", "B04", "B08"), 10.0, pixels=32, patch=8)
GREY = Slot("landsat8_l1", ("B8",), 15.0, pixels=32, patch=8)


@pytest.fixture(scope="module")
def original() -> Any:
    return reference(MODEL, PATCH).eval()


@pytest.fixture(scope="module")
def weights(original, tmp_path_factory) -> pathlib.Path:
    """The folder that transformers saves."""
    folder = tmp_path_factory.mktemp("published")
    original.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def kernel(original) -> np.ndarray:
    """The patch embedding, red, green and blue x width x patch x patch."""
    return original.vit.embeddings.patch_embeddings.projection.weight.detach().numpy().transpose(1, 0, 2, 3)


def spec_of(*slots: Slot, model: ModelConfig = MODEL, tokenizer: TokenizerConfig | None = None, **encoding: Any) -> ModelSpec:
    config = Config(model=model, tokenizer=tokenizer or TokenizerConfig(), encoding=EncodingConfig(**encoding))
    return model_spec(config, [Layout("one", slots)])


def load(file: pathlib.Path, spec: ModelSpec) -> tuple[Params, str]:
    params, report = load_published(str(file), spec, init_params(spec, 0))
    shapes = abstract_model(spec).shapes
    assert jax.tree.map(lambda leaf: leaf.shape, params) == jax.tree.map(lambda leaf: leaf.shape, shapes)
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {np.dtype(np.float32)}
    return params, "\n".join(report)


def bands_of(params: Params, key: str, patch: int) -> np.ndarray:
    """A patch embedding as bands x width x patch x patch."""
    return params["encoder"]["patch_embed"]["slots"][key]["kernel"].reshape(patch, patch, -1, MODEL.width).transpose(2, 3, 0, 1)


@pytest.mark.parametrize("bands", [("R", "G", "B"), ("B", "R", "G")])
def test_features_and_predictions_are_those_of_the_original(original, weights, bands):
    layout, spec = plain_mae(MODEL, PATCH, bands)
    params, report = load(weights, spec)
    assert "stays random" not in report
    pixels = np.random.default_rng(0).normal(size=(2, 16, 16, 3)).astype(np.float32)
    rgb = torch.from_numpy(pixels[..., [bands.index(name) for name in "RGB"]].transpose(0, 3, 1, 2))
    original.config.mask_ratio = 0.0
    with torch.no_grad():
        noise = torch.arange(16.0).expand(2, 16)
        features = original.vit(rgb, noise=noise).last_hidden_state.numpy()
        predicted = original(rgb, noise=noise).logits.reshape(2, 16, -1, 3)[..., ["RGB".index(name) for name in bands]].numpy()
    member = {"pixels": pixels, "valid": np.ones(pixels.shape, bool), "grid_m": np.ones((2, 4), np.float32)}
    batch = jax.device_put({"members": [member | {"time": np.zeros((2, 3), np.float32)}], "place": {}})
    model = merge(abstract_model(spec).graphdef, params)
    ours, _ = model.encoder(layout, batch)
    np.testing.assert_allclose(ours, features, atol=1e-4)
    ids = jnp.tile(jnp.arange(16), (2, 1))
    masks = Masks((ids,), (ids,), (jnp.zeros((2, 16), bool),), (jnp.ones(2, bool),), (jnp.zeros(2),))
    (logits,) = model(layout, batch, masks)
    np.testing.assert_allclose(np.asarray(logits).reshape(2, 16, -1, 3), predicted, atol=1e-4)


def test_bands_are_told_by_name(weights, kernel):
    small = dataclasses.replace(RGBN, patch=PATCH)
    params, report = load(weights, spec_of(small, GREY))
    red, green, blue = kernel
    ours = bands_of(params, "sentinel2_l3a-B02-B03-B04-B08-p4", PATCH)
    np.testing.assert_allclose(ours, 0.75 * np.stack([blue, green, red, kernel.mean(axis=0)]), atol=1e-6)
    assert "p4: blue to B02, green to B03, red to B04, the rest of their sum to the other bands" in report
    grey = bands_of(params, "landsat8_l1-B8-p8", 8)[0]
    np.testing.assert_allclose(grey.sum(axis=(1, 2)), kernel.sum(axis=(0, 2, 3)), atol=1e-4)  # a uniform grey patch keeps its embedding
    assert "landsat8_l1-B8-p8: resized to patch 8, red, green and blue alike to all bands" in report


def test_drawn_bands_get_the_kernel_itself(weights, kernel):
    params, report = load(weights, spec_of(dataclasses.replace(RGBN, patch=PATCH), tokenizer=TokenizerConfig("random3")))
    np.testing.assert_array_equal(bands_of(params, "random3-p4", PATCH), kernel)
    assert "taken: patch embedding of random3-p4: red, green, blue in turn" in report
    assert "stays random: decoder.pred" in report


def test_what_is_left_is_said(weights):
    params, report = load(weights, spec_of(RGBN, dataclasses.replace(RGBN, patch=PATCH, bands=("B04", "B03", "B02"))))
    assert "taken: prediction of sentinel2_l3a-B04-B03-B02-p4" in report
    for line in (
        "taken: 2 encoder blocks",
        "taken: class token",
        "taken: 1 decoder blocks, with embedding, mask token and norm",
        "stays random: encoder.encodings",
        "stays random: decoder.pred.slots.sentinel2_l3a-B02-B03-B04-B08-p8",
        "left out: encoder positions (fixed sines and cosines): positions are computed, config.encoding.positions='metres'",
    ):
        assert f"\n  {line}" in report, report
    assert "config.model.heads=3 and decoder_heads=3 must be that of the weights" in report
    seeded = init_params(spec_of(RGBN), 0)
    assert set(params["decoder"]["encodings"]) == set(seeded["decoder"]["encodings"])


def test_wavelengths_no_class_token_and_another_decoder(weights):
    model = dataclasses.replace(MODEL, cls_token=False, decoder_width=32, decoder_heads=4)
    params, report = load(weights, spec_of(RGBN, model=model, tokenizer=TokenizerConfig("wavelength")))
    for line in (
        "stays random: encoder.patch_embed",
        "stays random: decoder",
        "left out: class token: the model has none; --config.model.cls_token=true would take it",
        "left out: patch embedding: config.tokenizer.kind='wavelength' generates its own",
        "left out: decoder of width 24, depth 1 and 96 hidden values: the model's has width 32, depth 1 and 128",
    ):
        assert f"\n  {line}" in report, report
    same, _ = load(weights, spec_of(RGBN))
    np.testing.assert_array_equal(params["encoder"]["norm"]["bias"], same["encoder"]["norm"]["bias"])


def test_learned_positions_are_interpolated_to_the_table(original, weights):
    params, report = load(weights, spec_of(RGBN, positions="learned"))
    tables = {"encoder": original.vit.embeddings.position_embeddings, "decoder": original.decoder.decoder_pos_embed}
    for half, theirs in tables.items():
        image = theirs[:, 1:].reshape(1, 4, 4, -1).permute(0, 3, 1, 2)
        resized = torch.nn.functional.interpolate(image, size=(14, 14), mode="bicubic", align_corners=False)
        np.testing.assert_allclose(params[half]["encodings"]["position_table"], resized[0].permute(1, 2, 0).numpy(), atol=1e-6)
        assert f"taken: {half} positions, as a table of 14 x 14" in report
    _, report = load(weights, spec_of(RGBN, positions="learned", identity="satmae"))
    assert "left out: encoder positions of width 48: the model's table has width 36 beside its other codes" in report
    assert "stays random: encoder.encodings\n" in report


def test_learned_positions_of_the_class_token_and_a_head(original, weights, tmp_path):
    state = {name: value.clone() for name, value in original.vit.state_dict().items()}
    state["embeddings.position_embeddings"] = torch.randn(state["embeddings.position_embeddings"].shape)
    torch.save(state | {"classifier.weight": torch.zeros(5, 48), "classifier.bias": torch.zeros(5)}, tmp_path / "vit.bin")
    params, report = load(tmp_path / "vit.bin", spec_of(RGBN, positions="index"))
    token = state["embeddings.cls_token"] + state["embeddings.position_embeddings"][:, :1]
    np.testing.assert_allclose(params["encoder"]["cls_token"], token.flatten())
    assert "left out: classification head (classifier.weight, classifier.bias)" in report
    assert "left out: encoder positions (learned): positions are computed" in report
    assert "stays random: decoder\n" in report
    assert "config.model.heads=3 must be" in report


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"width": 96}, "its encoder has width 48, not the model's 96; give --config.model.width=48, or"),
        ({"width": 96, "depth": 3}, "give --config.model.width=48 --config.model.depth=2, or"),
        ({"mlp_ratio": 2.0}, r"its encoder has mlp_ratio 4.0, not the model's 2.0; give --config.model.mlp_ratio=4.0"),
    ],
)
def test_an_encoder_of_another_size_is_refused(weights, fields, message):
    with pytest.raises(InputError, match=message) as caught:
        load(weights, spec_of(RGBN, model=dataclasses.replace(MODEL, **fields)))
    assert str(caught.value).startswith(f"config.init.torch={weights}: ")


def test_a_file_that_is_none_and_bands_that_are_not_rgb(original, tmp_path):
    with pytest.raises(InputError, match=r"config.init.torch: .*absent.pth: can't be read as weights"):
        load(tmp_path / "absent.pth", spec_of(RGBN))
    state = original.vit.state_dict() | {"embeddings.patch_embeddings.projection.weight": torch.zeros(48, 6, PATCH, PATCH)}
    torch.save(state, tmp_path / "six.bin")
    with pytest.raises(InputError, match=r"reads 6 bands, expected 3 .* --config.tokenizer.kind=wavelength"):
        load(tmp_path / "six.bin", spec_of(RGBN))
    load(tmp_path / "six.bin", spec_of(RGBN, tokenizer=TokenizerConfig("wavelength")))


@pytest.fixture
def starting(tiny: Config, weights, tmp_path) -> Config:
    """The tiny experiment from published weights in a folder of its own."""
    tiny.init.torch = str(shutil.copytree(weights, tmp_path / "weights"))
    return tiny


def test_the_state_keeps_its_shardings_and_its_moments(starting: Config, tiny_dataset: Dataset, kernel, capsys):
    starting.parallel.fsdp = 4
    trainer = Trainer(starting, tiny_dataset)
    state = trainer.initial_state()
    for leaf, abstract in zip(jax.tree.leaves(state), jax.tree.leaves(trainer.program.abstract), strict=True):
        assert (leaf.sharding, leaf.shape, leaf.dtype) == (abstract.sharding, abstract.shape, abstract.dtype)
    assert not any(np.any(leaf) for leaf in jax.tree.leaves(jax.device_get(state.opt_state)))
    assert int(state.step) == 0
    ours = bands_of(jax.device_get(state.params), "sentinel2_l3a-B02-B03-B04-B08-p4", PATCH)
    np.testing.assert_allclose(ours[2], 0.75 * kernel[0], atol=1e-6)
    assert capsys.readouterr().out.count("started from") == 1


def test_a_run_that_continues_does_not_read_the_file(starting: Config, tmp_path, capsys):
    assert run_training(starting, str(tmp_path / "run")) == 0
    assert capsys.readouterr().out.count("started from") == 1
    shutil.rmtree(tmp_path / "run" / "checkpoints" / "40")
    shutil.rmtree(starting.init.torch)
    assert run_training(starting, str(tmp_path / "run")) == 0
    out = capsys.readouterr().out
    assert "continuing at step 30 of 40" in out
    assert "started from" not in out


def test_weights_that_do_not_fit_leave_no_folder(starting: Config, tmp_path):
    starting.model.width, starting.model.heads = 96, 3
    with pytest.raises(InputError, match=r"--config.model.width=48"):
        run_training(starting, str(tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_without_torch_the_message_says_what_to_install():
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from rsfm_jax.train.pretrained import read_fitting\n"
        "try:\n    read_fitting('vit.pth', None)\nexcept ValueError as error:\n    print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=REPO, capture_output=True, text=True, check=True)
    assert re.fullmatch(r"config.init.torch=vit.pth: torch is missing, which reads it; pip install 'rsfm_jax\[torch\]'\n", done.stdout)
