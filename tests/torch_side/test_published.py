"""Published weights: one tiny model written in every format reads as the same arrays, and computes the same."""

import argparse
from collections.abc import Callable
import pathlib
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="no CPU wheel of PyTorch for this Python")

from safetensors.torch import load_file, save_file  # noqa: E402
import torch.nn.functional as F  # noqa: E402

from rsfm_jax.errors import InputError  # noqa: E402
from rsfm_jax.torch.published import read_published  # noqa: E402

WIDTH, INNER, HEADS, INNER_HEADS, DEPTH, PATCH, TOKENS = 32, 16, 4, 2, 2, 4, 17
CONFIG = {
    "hidden_size": WIDTH,
    "num_hidden_layers": DEPTH,
    "num_attention_heads": HEADS,
    "intermediate_size": 64,
    "image_size": 16,
    "patch_size": PATCH,
    "layer_norm_eps": 1e-6,
}
DECODER_CONFIG = {
    "decoder_hidden_size": INNER,
    "decoder_num_hidden_layers": DEPTH,
    "decoder_num_attention_heads": INNER_HEADS,
    "decoder_intermediate_size": 24,
}
State = dict[str, Any]


def mae_state() -> State:
    """Random weights under the names of facebookresearch/mae's models_mae.py."""
    shapes: dict[str, tuple[int, ...]] = {
        "cls_token": (1, 1, WIDTH),
        "pos_embed": (1, TOKENS, WIDTH),
        "mask_token": (1, 1, INNER),
        "decoder_pos_embed": (1, TOKENS, INNER),
    }
    layers = {"patch_embed.proj": (WIDTH, 3, PATCH, PATCH), "norm": (WIDTH,)}
    layers |= {"decoder_embed": (INNER, WIDTH), "decoder_norm": (INNER,), "decoder_pred": (PATCH * PATCH * 3, INNER)}
    for name, width, hidden in (("blocks", WIDTH, 64), ("decoder_blocks", INNER, 24)):
        for i in range(DEPTH):
            layers |= {f"{name}.{i}.norm1": (width,), f"{name}.{i}.norm2": (width,)}
            layers |= {f"{name}.{i}.attn.qkv": (3 * width, width), f"{name}.{i}.attn.proj": (width, width)}
            layers |= {f"{name}.{i}.mlp.fc1": (hidden, width), f"{name}.{i}.mlp.fc2": (width, hidden)}
    for name, shape in layers.items():
        shapes |= {f"{name}.weight": shape, f"{name}.bias": shape[:1]}
    random = torch.Generator().manual_seed(0)
    return {name: 0.2 * torch.randn(shape, generator=random) for name, shape in shapes.items()}


def timm_state() -> State:
    """The same encoder as timm writes it, with a head."""
    encoder = {name: weight for name, weight in mae_state().items() if not name.startswith(("decoder_", "mask_token"))}
    return encoder | {"head.weight": torch.zeros(5, WIDTH), "head.bias": torch.zeros(5)}


def classic_state(blocks: str = "decoder.decoder_layers") -> State:
    """The same weights as transformers names them on the Hub."""
    parts = {
        "norm1": "layernorm_before",
        "norm2": "layernorm_after",
        "attn.proj": "attention.output.dense",
        "mlp.fc1": "intermediate.dense",
        "mlp.fc2": "output.dense",
    }
    others = {
        "cls_token": "vit.embeddings.cls_token",
        "pos_embed": "vit.embeddings.position_embeddings",
        "patch_embed.proj": "vit.embeddings.patch_embeddings.projection",
        "norm": "vit.layernorm",
        "mask_token": "decoder.mask_token",
    }
    state = {}
    for name, weight in mae_state().items():
        layer, _, leaf = name.rpartition(".")
        if "blocks." in name:
            stack, i, part = layer.split(".", 2)
            prefix = f"{'vit.encoder.layer' if stack == 'blocks' else blocks}.{i}"
            if part == "attn.qkv":
                for which, third in zip(("query", "key", "value"), weight.chunk(3), strict=True):
                    state[f"{prefix}.attention.attention.{which}.{leaf}"] = third.clone()
            else:
                state[f"{prefix}.{parts[part]}.{leaf}"] = weight
        elif name.startswith("decoder_"):
            state[f"decoder.{name}"] = weight
        else:
            state[others[name] if name in others else f"{others[layer]}.{leaf}"] = weight
    return state


def write_classic(folder: pathlib.Path) -> pathlib.Path:
    transformers = pytest.importorskip("transformers", reason="transformers isn't installed; it writes the files to read")
    transformers.ViTMAEConfig(**CONFIG, **DECODER_CONFIG, mask_ratio=0.0).save_pretrained(folder)
    save_file(classic_state(), folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def load(kind: str, folder: pathlib.Path) -> Any:
    """The model in transformers, which checks that the names on the Hub are the ones above."""
    write_classic(folder)
    import transformers

    config = {} if "MAE" in kind else {"config": transformers.ViTConfig(**CONFIG)}
    model, report = getattr(transformers, kind).from_pretrained(folder, output_loading_info=True, **config)
    assert all("pooler" in key or "classifier" in key for key in report["missing_keys"])
    return model.eval()


def saved(kind: str, folder: pathlib.Path) -> pathlib.Path:
    load(kind, folder).save_pretrained(folder / "saved")
    return folder / "saved"


def torch_saved(state: Any, file: pathlib.Path) -> pathlib.Path:
    torch.save(state, file)
    return file


def safetensors_saved(state: State, file: pathlib.Path) -> pathlib.Path:
    save_file(state, file)
    return file


def training_checkpoint() -> State:
    momentum = {"state": {0: {"step": 3.0, "exp_avg": torch.zeros(2)}}, "param_groups": [{"lr": 0.1, "params": [0]}]}
    args = argparse.Namespace(model="mae_vit_large_patch16", blr=1e-3, output_dir="out", distributed=True)
    return {"model": mae_state(), "optimizer": momentum, "epoch": 399, "scaler": {"scale": 65536.0}, "args": args}


WHOLE: dict[str, Callable[[pathlib.Path], pathlib.Path]] = {
    "mae": lambda folder: torch_saved({"model": mae_state()}, folder / "mae.pth"),
    "mae checkpoint": lambda folder: torch_saved(training_checkpoint(), folder / "checkpoint-399.pth"),
    "mae safetensors": lambda folder: safetensors_saved(mae_state(), folder / "mae.safetensors"),
    "hub": lambda folder: torch_saved(classic_state(), folder / "pytorch_model.bin").parent,
    "transformers": lambda folder: saved("ViTMAEForPreTraining", folder),
    "transformers state dict": lambda folder: torch_saved(load("ViTMAEForPreTraining", folder).state_dict(), folder / "weights.bin"),
}
ENCODERS: dict[str, Callable[[pathlib.Path], pathlib.Path]] = {
    "mae": lambda folder: torch_saved({"model": timm_state()}, folder / "mae_pretrain.pth"),
    "timm": lambda folder: torch_saved(timm_state(), folder / "vit.bin"),
    "timm safetensors": lambda folder: safetensors_saved(timm_state(), folder / "vit.safetensors"),
    "ViTMAEModel": lambda folder: saved("ViTMAEModel", folder),
    "ViTModel": lambda folder: saved("ViTModel", folder) / "model.safetensors",
    "ViTModel state dict": lambda folder: torch_saved(load("ViTModel", folder).state_dict(), folder / "vit.bin"),
    "ViTForImageClassification": lambda folder: saved("ViTForImageClassification", folder),
}


def assert_equal(arrays: dict[str, np.ndarray] | None, expected: State) -> None:
    assert arrays is not None
    assert sorted(arrays) == sorted(expected)
    for name, array in arrays.items():
        assert array.dtype == np.float32
        assert array.flags.c_contiguous
        np.testing.assert_array_equal(array, expected[name].numpy(), err_msg=name)


def encoder_of(state: State) -> State:
    return {name: weight for name, weight in state.items() if not name.startswith(("decoder_", "mask_token", "head."))}


@pytest.mark.parametrize("write", WHOLE.values(), ids=WHOLE)
def test_every_format_with_a_decoder_reads_the_same(tmp_path, write):
    read = read_published(write(tmp_path))
    state = mae_state()
    decoder = {name.removeprefix("decoder_"): weight for name, weight in state.items() if name.startswith(("decoder_", "mask_token"))}
    assert_equal(read.encoder, encoder_of(state))
    assert_equal(read.decoder, decoder)
    assert (read.width, read.depth, read.patch, read.bands) == (WIDTH, DEPTH, PATCH, 3)
    assert (read.decoder_width, read.decoder_depth) == (INNER, DEPTH)


@pytest.mark.parametrize("write", ENCODERS.values(), ids=ENCODERS)
def test_every_format_without_a_decoder_reads_the_same(tmp_path, write):
    read = read_published(write(tmp_path))
    assert_equal(read.encoder, encoder_of(mae_state()))
    assert read.decoder is None
    assert (read.width, read.depth, read.patch, read.bands) == (WIDTH, DEPTH, PATCH, 3)
    assert (read.decoder_width, read.decoder_depth) == (0, 0)


def test_the_format_and_what_is_left_out(tmp_path):
    checkpoint = read_published(WHOLE["mae checkpoint"](tmp_path))
    assert checkpoint.format == "facebookresearch/mae"
    assert sorted(checkpoint.left_out) == ["args", "epoch", "optimizer", "scaler"]
    timm = read_published(ENCODERS["timm"](tmp_path))
    assert timm.format == "timm"
    assert timm.left_out == {"head.weight": "classification head", "head.bias": "classification head"}
    pooled = torch_saved(classic_state() | {"vit.pooler.dense.weight": torch.zeros(2, 2)}, tmp_path / "pooled.bin")
    assert read_published(pooled).format == "transformers"
    assert read_published(pooled).left_out == {"vit.pooler.dense.weight": "pooling head"}


def test_transformers_writes_names_that_are_known(tmp_path):
    """If this fails, transformers has new names: add them to the reader's table."""
    written = set(load_file(saved("ViTMAEForPreTraining", tmp_path) / "model.safetensors"))
    assert written in (set(classic_state()), set(classic_state("decoder.decoder_encoder.layer")))


def attention(x: Any, arrays: Any, prefix: str, heads: int) -> tuple[Any, Any, Any]:
    """Queries, keys and values (B, A, T, E) from the fused weights."""
    qkv = F.linear(x, arrays[f"{prefix}.attn.qkv.weight"], arrays[f"{prefix}.attn.qkv.bias"])
    q, k, v = qkv.unflatten(-1, (3, heads, -1)).permute(2, 0, 3, 1, 4)
    return q, k, v


def transformer(x: Any, arrays: Any, heads: int) -> Any:
    """A pre-norm ViT's blocks and final norm, written out."""

    def norm(x: Any, name: str) -> Any:
        return F.layer_norm(x, x.shape[-1:], arrays[f"{name}.weight"], arrays[f"{name}.bias"], 1e-6)

    def linear(x: Any, name: str) -> Any:
        return F.linear(x, arrays[f"{name}.weight"], arrays[f"{name}.bias"])

    for i in range(DEPTH):
        block = f"blocks.{i}"
        mixed = F.scaled_dot_product_attention(*attention(norm(x, f"{block}.norm1"), arrays, block, heads))
        x = x + linear(mixed.transpose(1, 2).flatten(2), f"{block}.attn.proj")
        x = x + linear(F.gelu(linear(norm(x, f"{block}.norm2"), f"{block}.mlp.fc1")), f"{block}.mlp.fc2")
    return norm(x, "norm")


def test_the_arrays_compute_what_the_model_does(tmp_path):
    model = load("ViTMAEForPreTraining", tmp_path)
    read = read_published(saved("ViTMAEForPreTraining", tmp_path))
    assert read.decoder is not None
    encoder, decoder = ({name: torch.from_numpy(array) for name, array in part.items()} for part in (read.encoder, read.decoder))
    image = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        theirs = model(image, noise=torch.arange(16.0).expand(2, 16), output_hidden_states=True)
        patches = F.conv2d(image, encoder["patch_embed.proj.weight"], encoder["patch_embed.proj.bias"], stride=PATCH).flatten(2).mT
        x = torch.cat([encoder["cls_token"].expand(2, 1, WIDTH), patches], dim=1) + encoder["pos_embed"]
        layer = model.vit.layers[0].attention
        for ours, split in zip(attention(x, encoder, "blocks.0", HEADS), (layer.q_proj, layer.k_proj, layer.v_proj), strict=True):
            torch.testing.assert_close(ours.transpose(1, 2).flatten(2), split(x))
        latent = transformer(x, encoder, HEADS)
        y = F.linear(latent, decoder["embed.weight"], decoder["embed.bias"]) + decoder["pos_embed"]
        logits = F.linear(transformer(y, decoder, INNER_HEADS), decoder["pred.weight"], decoder["pred.bias"])[:, 1:]
    torch.testing.assert_close(logits, theirs.logits, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions_become_float32(tmp_path, dtype):
    state = {name: weight.to(dtype) for name, weight in timm_state().items()}
    rounded = {name: weight.float() for name, weight in encoder_of(state).items()}
    assert_equal(read_published(safetensors_saved(state, tmp_path / "vit.safetensors")).encoder, rounded)


def test_a_class_token_without_a_position_or_none_at_all(tmp_path):
    state = timm_state()
    state["pos_embed"] = state["pos_embed"][:, 1:].clone()
    with_token = read_published(torch_saved(state, tmp_path / "no_embed_class.pth")).encoder
    assert "cls_token" in with_token
    del state["cls_token"]
    with_none = read_published(torch_saved(state, tmp_path / "no_class.pth")).encoder
    assert "cls_token" not in with_none
    for encoder in (with_token, with_none):
        assert encoder["pos_embed"].shape == (1, TOKENS, WIDTH)
        assert not encoder["pos_embed"][0, 0].any()
        np.testing.assert_array_equal(encoder["pos_embed"][:, 1:], state["pos_embed"])


def test_the_norm_of_a_mean_pooling_head_is_left_out(tmp_path):
    state = timm_state()
    for leaf in ("weight", "bias"):
        state[f"fc_norm.{leaf}"] = state.pop(f"norm.{leaf}")
    read = read_published(torch_saved({"model": state}, tmp_path / "finetuned.pth"))
    assert "norm.weight" not in read.encoder
    assert read.left_out["fc_norm.bias"] == "norm of the mean-pooling head"


def without(state: State, *names: str) -> State:
    return {name: weight for name, weight in state.items() if not name.startswith(names)}


QUERY = "vit.encoder.layer.1.attention.attention.query.weight"
BAD: dict[str, tuple[Callable[[], Any], str]] = {
    "unknown": (lambda: timm_state() | {"blocks.0.attn.gate": torch.zeros(1)}, r"key 'blocks.0.attn.gate' is unknown"),
    "missing": (lambda: without(timm_state(), "blocks.1.mlp.fc2.bias"), r"'blocks.1.mlp.fc2.bias' .* is missing; expected shape \(32,\)"),
    "gap": (lambda: without(timm_state(), "blocks.0."), r"'blocks.0.\*' .* are missing"),
    "no blocks": (lambda: without(timm_state(), "blocks."), r"'blocks.0.\*' .* are missing"),
    "no fc1": (lambda: without(timm_state(), "blocks.0.mlp.fc1.weight"), "'blocks.0.mlp.fc1.weight' .* is missing$"),
    "no class token": (lambda: without(timm_state(), "cls_token"), "'cls_token' .* is missing"),
    "no norm": (lambda: without(timm_state(), "norm."), "'norm.weight' .* is missing"),
    "no pred": (lambda: without(mae_state(), "decoder_pred"), "'decoder.pred.weight' .* is missing"),
    "half a decoder": (lambda: without(mae_state(), "decoder_blocks"), r"'decoder.blocks.0.\*' .* are missing"),
    "narrow block": (
        lambda: timm_state() | {"blocks.1.norm1.bias": torch.zeros(16)},
        r"'blocks.1.norm1.bias' has shape \(16,\); expected \(32,\)",
    ),
    "narrow query": (lambda: classic_state() | {QUERY: torch.zeros(8, 32)}, rf"key '{QUERY}' has shape \(8, 32\); expected \(32, 32\)"),
    "oblong": (lambda: timm_state() | {"pos_embed": torch.zeros(1, 13, 32)}, "key 'pos_embed' has 13 positions; expected a square"),
    "flat positions": (
        lambda: timm_state() | {"pos_embed": torch.zeros(17, 32)},
        r"key 'pos_embed' has shape \(17, 32\); expected \(1, 17, 32\)",
    ),
    "cubes": (lambda: timm_state() | {"patch_embed.proj.weight": torch.zeros(32, 3, 1, 4, 4)}, "expected \\(width, bands, patch, patch\\)"),
    "integers": (
        lambda: timm_state() | {"norm.bias": torch.zeros(32, dtype=torch.int8)},
        "key 'norm.bias' is torch.int8; expected float32",
    ),
    "number": (lambda: timm_state() | {"epoch": 3}, "key 'epoch' is unknown and holds a int"),
    "twice": (lambda: classic_state() | {"layernorm.bias": torch.zeros(32)}, "keys 'vit.layernorm.bias' and 'layernorm.bias' are the same"),
    "layer scale": (
        lambda: timm_state() | {"blocks.0.ls1.gamma": torch.ones(32)},
        "'blocks.0.ls1.gamma' means layer scale; .* not supported",
    ),
    "registers": (lambda: timm_state() | {"register_tokens": torch.ones(1, 4, 32)}, "means register tokens; .* not supported"),
    "swiglu": (lambda: timm_state() | {"blocks.0.mlp.w12.weight": torch.ones(2, 2)}, "means a SwiGLU MLP; .* not supported"),
    "other network": (lambda: {"conv1.weight": torch.zeros(8, 3, 7, 7)}, "not a ViT: it has neither key 'patch_embed.proj.weight'"),
    "list": (lambda: [torch.zeros(2)], "it is a list; expected a state dict"),
    "module": (
        lambda: torch.nn.Linear(2, 2),
        r"can't be read as weights \(it needs the code of torch.nn.modules.linear.Linear\); expected",
    ),
    "numbered": (lambda: {"model": {0: torch.zeros(2)}}, "model is a dict; expected a state dict, weights by name"),
    "entry": (lambda: {"model": timm_state(), "model_ema": {}}, "key 'model_ema' is unknown; beside 'model' there may be optimizer"),
    "no model": (lambda: {"model": None}, "model is a NoneType; expected a state dict"),
}


@pytest.mark.parametrize(("state", "message"), BAD.values(), ids=BAD)
def test_bad_content_names_the_file_and_the_key(tmp_path, state, message):
    file = torch_saved(state(), tmp_path / "bad.pth")
    with pytest.raises(InputError, match=message) as caught:
        read_published(file)
    assert str(caught.value).startswith(f"{file}: ")


@pytest.mark.parametrize(
    "name", ["empty.pth", "empty.safetensors", "text.pth", "text.safetensors", "cut.pth", "cut.safetensors", "absent.pth"]
)
def test_unreadable_files_are_named(tmp_path, name):
    file = tmp_path / name
    if not name.startswith("absent"):
        (safetensors_saved if file.suffix == ".safetensors" else torch_saved)(timm_state(), file)
        whole = file.read_bytes()
        file.write_bytes({"empty": b"", "text": b"<html>not found</html>", "cut": whole[: len(whole) // 2]}[file.stem])
    with pytest.raises(InputError, match=r"can't be read as weights") as caught:
        read_published(file)
    assert str(caught.value).startswith(f"{file}: ")
    assert "weights_only" not in str(caught.value)  # torch advises to run the code in the file


def test_messages_name_the_file_in_a_folder_or_the_folder(tmp_path):
    torch_saved(timm_state() | {"extra": torch.zeros(1)}, tmp_path / "pytorch_model.bin")
    with pytest.raises(InputError, match=r"pytorch_model.bin: key 'extra' is unknown"):
        read_published(tmp_path)
    (tmp_path / "pytorch_model.bin").unlink()
    with pytest.raises(InputError, match=r"holds no model.safetensors or pytorch_model.bin"):
        read_published(tmp_path)
