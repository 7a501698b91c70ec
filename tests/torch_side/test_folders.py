"""What is asked of an exported folder before its encoder is used."""

import hashlib
import json
import pathlib

import pytest

torch = pytest.importorskip("torch", reason="no CPU wheel of PyTorch for this Python")

from rsfm_jax.errors import InputError  # noqa: E402
from rsfm_jax.torch.folders import folder_digest, open_encoder, read_config  # noqa: E402
from tests.torch_side.small_encoder import WIDTH, small_encoder  # noqa: E402


@pytest.fixture
def folder(tmp_path: pathlib.Path) -> pathlib.Path:
    small_encoder().save_folder(tmp_path / "weights")
    return tmp_path / "weights"


def change(folder: pathlib.Path, **fields: object) -> None:
    config = json.loads((folder / "config.json").read_text()) | fields
    (folder / "config.json").write_text(json.dumps({name: value for name, value in config.items() if value is not None}))


def test_a_folder_with_and_without_its_weights(folder: pathlib.Path):
    written = small_encoder()
    found = open_encoder(str(folder))
    assert all(torch.equal(x, written.state_dict()[name]) for name, x in found.state_dict().items())
    assert not found.training
    random = open_encoder(folder, pretrained=False)
    assert random.state_dict().keys() == written.state_dict().keys()
    assert torch.equal(random.norm.weight, torch.ones(WIDTH))
    assert not random.training
    assert read_config(folder)["slots"] == written.config["slots"]


def test_the_digest_stands_for_config_and_weights(folder: pathlib.Path, tmp_path: pathlib.Path):
    assert folder_digest(folder) == hashlib.sha256((folder / "config.json").read_bytes()).hexdigest()
    other = small_encoder()
    with torch.no_grad():
        other.norm.bias += 1e-3
    other.save_folder(tmp_path / "other")
    assert folder_digest(tmp_path / "other") != folder_digest(folder)


@pytest.mark.parametrize("pretrained", [True, False])
@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda f: (f / "config.json").unlink(), r"weights: holds no config\.json; give the folder that python -m rsfm_jax\.export"),
        (
            lambda f: (f / "config.json").write_text("{"),
            r"config\.json: is no JSON \(.*\); give the folder that python -m rsfm_jax\.export",
        ),
        (lambda f: (f / "config.json").write_text("[]"), r"weights: is not of the format rsfm, .*; export with --format=rsfm"),
        (
            lambda f: (f / "config.json").write_text('{"model_args": {}}'),
            r"weights: is not of the format rsfm, .*; export with --format=rsfm",
        ),
        (lambda f: change(f, format_version=1), r"weights: config\.json: format_version is 1, this file reads 2"),
        (lambda f: change(f, width=None), r"weights: config\.json has no 'width'; give the folder"),
    ],
)
def test_bad_configs(folder: pathlib.Path, damage, said: str, pretrained: bool):
    damage(folder)
    with pytest.raises(InputError, match=said):
        open_encoder(folder, pretrained)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda f: (f / "model.safetensors").unlink(), r"weights: holds no model\.safetensors; give the folder"),
        (lambda f: (f / "model.safetensors").write_bytes(b"broken"), "its SHA-256 is .*, config.json expects .*; download it again"),
        (lambda f: change(f, sha256=None), r"weights: config\.json has no 'sha256'; give the folder"),
        (lambda f: change(f, depth=5), r"weights: .*Missing key\(s\) in state_dict: .*blocks\.4"),
    ],
)
def test_bad_weights(folder: pathlib.Path, damage, said: str):
    damage(folder)
    with pytest.raises(InputError, match=said):
        open_encoder(folder)
    open_encoder(folder, pretrained=False)
