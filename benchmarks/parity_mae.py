"""The masked autoencoder against transformers' ViTMAEForPreTraining: loss, gradients, and parameters after AdamW, float32 on the CPU.

    python benchmarks/parity_mae.py --size=base --steps=3

Both sides get the same random weights, biases included, images and noise, on a square and on an oblong image. Weights, gradients and
updated parameters cross over as files under transformers' names that `rsfm_jax.train.pretrained` reads, so that reader is measured too.

Gradients are compared tensor by tensor, queries, keys and values apart. Biases of keys are left out there: the softmax does not see them,
so their gradients are rounding. The optimiser is AdamW at MAE's settings and a constant learning rate, without decay on biases and norms.
Where a gradient is nearly zero its first step multiplies differences of rounding by the learning rate over epsilon, 15,000.

Fresh models of transformers 5 have positions of zeros, and on oblong images they resize the table of a square one: here both tables are set
to MAE's fixed sines and cosines of the image's own grid.

The last line is JSON, the worst of both images; exit code 1 where it breaks a limit.
"""

import argparse
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
import dataclasses
import json
import multiprocessing
import pathlib
import resource
import sys
import tempfile
from typing import Any

import jax
import numpy as np
import optax
from safetensors.torch import save_file
import torch
import transformers

from rsfm_jax.config import Config, EncodingConfig, ModelConfig
from rsfm_jax.errors import exit_code
from rsfm_jax.layouts import Layout, Slot
from rsfm_jax.models.build import Params, abstract_model, merge
from rsfm_jax.models.spec import ModelSpec, model_spec
from rsfm_jax.nn.patchify import patchify
from rsfm_jax.objectives.masking import Masks
from rsfm_jax.objectives.reconstruction import reconstruction_loss
from rsfm_jax.train.optimizer import decay_mask
from rsfm_jax.train.pretrained import load_published

LIMITS = {"loss_rel": 1e-5, "grad_cos_min": 0.99999, "param_max_abs": 1e-5}
MASK_RATIO, BATCH = 0.75, 2
PLAIN = EncodingConfig("index", geo="none", time="none", identity="none", gsd=False, metadata_dropout=0.0)
LEARNING_RATE, B1, B2, EPSILON, WEIGHT_DECAY = 1.5e-4, 0.9, 0.95, 1e-8, 0.05


@dataclasses.dataclass(frozen=True)
class Size:
    """A model and the images it is measured on.

    Attributes:
      model: Encoder and decoder.
      patch: Patch side in pixels.
      images: Heights and widths in pixels.
      apart: Whether each side gets a process of its own, so that memory is needed for one of them at a time.
    """

    model: ModelConfig
    patch: int
    images: tuple[tuple[int, int], ...]
    apart: bool = True


def _model(width: int, depth: int, heads: int, decoder: tuple[int, int, int] = (512, 8, 16)) -> ModelConfig:
    return ModelConfig(width, depth, heads, *decoder, cls_token=True, compute_dtype="float32", remat="none")


SIZES = {
    "tiny": Size(_model(48, 2, 3, (24, 1, 3)), 4, ((32, 32), (32, 24)), apart=False),
    "base": Size(_model(768, 12, 12), 16, ((224, 224), (224, 160))),
    "large": Size(_model(1024, 24, 16), 16, ((224, 224), (224, 160))),
}


def camera(pixels: int, patch: int, bands: tuple[str, ...] = ("R", "G", "B")) -> Layout:
    """A layout of one RGB camera."""
    return Layout("camera", (Slot("neon_rgb", bands, 0.1, pixels=pixels, patch=patch),))


def plain_mae(model: ModelConfig, patch: int, bands: tuple[str, ...] = ("R", "G", "B")) -> tuple[Layout, ModelSpec]:
    """A camera's layout and MAE's own model for it: one kind of token, positions by index, told nothing else."""
    layout = camera(4 * patch, patch, bands)
    return layout, model_spec(Config(model=model, encoding=PLAIN), [layout])


def peer(model: ModelConfig, pixels: int, patch: int) -> Any:
    """The model of transformers, as it initialises itself."""
    config = transformers.ViTMAEConfig(
        hidden_size=model.width,
        num_hidden_layers=model.depth,
        num_attention_heads=model.heads,
        intermediate_size=int(model.width * model.mlp_ratio),
        decoder_hidden_size=model.decoder_width,
        decoder_num_hidden_layers=model.decoder_depth,
        decoder_num_attention_heads=model.decoder_heads,
        decoder_intermediate_size=int(model.decoder_width * model.mlp_ratio),
        image_size=pixels,
        patch_size=patch,
        mask_ratio=MASK_RATIO,
        norm_pix_loss=True,
        layer_norm_eps=1e-6,
    )
    return transformers.ViTMAEForPreTraining(config)


def reference(model: ModelConfig, patch: int, seed: int = 0) -> Any:
    """The peer with random biases and norms, and queries and keys large enough to matter."""
    torch.manual_seed(seed)
    built = peer(model, 4 * patch, patch)
    with torch.no_grad():
        for name, parameter in built.named_parameters():
            if parameter.ndim == 1 or name.endswith("token"):  # biases, norms, class and mask token
                parameter += 0.02 * torch.randn(parameter.shape)
            elif ".q_proj." in name or ".k_proj." in name:  # as initialised, all tokens are attended to alike, whatever these are
                parameter.copy_(parameter.shape[1] ** -0.5 * torch.randn(parameter.shape))
    set_positions(built, 4, 4)
    return built


def sincos_positions(rows: int, columns: int, width: int) -> np.ndarray:
    """MAE's positions (1, 1 + rows * columns, width): sines and cosines of the column, then of the row; zeros for the class token."""
    frequency = 10000.0 ** (-np.arange(width // 4) / (width // 4))
    codes = [np.concatenate([np.sin(x), np.cos(x)], axis=-1) for x in (np.arange(n)[:, None] * frequency for n in (columns, rows))]
    table = np.concatenate(np.broadcast_arrays(codes[0][None, :], codes[1][:, None]), axis=-1).reshape(rows * columns, width)
    return np.concatenate([np.zeros((1, width)), table])[None].astype(np.float32)


def set_positions(model: Any, rows: int, columns: int) -> None:
    """Sets both of a reference's tables, as they are used on images of rows x columns patches."""
    embeddings, decoder = model.vit.embeddings, model.decoder
    for owner, name in ((embeddings, "position_embeddings"), (decoder, "decoder_pos_embed")):
        table = torch.from_numpy(sincos_positions(rows, columns, getattr(owner, name).shape[-1]))
        setattr(owner, name, torch.nn.Parameter(table, requires_grad=False))
    embeddings.interpolate_pos_encoding = lambda *_: embeddings.position_embeddings
    decoder.interpolate_pos_encoding = lambda *_: decoder.decoder_pos_embed


def draw(size: Size, image: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Images float32 (B, H, W, 3) and noise float32 (B, N)."""
    random = np.random.default_rng(0)
    patches = (image[0] // size.patch) * (image[1] // size.patch)
    return random.normal(size=(BATCH, *image, 3)).astype(np.float32), random.random((BATCH, patches), np.float32)


def run_torch(size: Size, image: tuple[int, int], steps: int, folder: pathlib.Path) -> list[float]:
    """Writes ``start`` (weights), ``grads`` (of the first step) and ``end`` (weights after all steps) into a folder.

    Returns:
      The loss before each step.
    """
    model, (pixels, noise), losses = reference(size.model, size.patch), draw(size, image), []
    _save(model, folder / "start", gradients=False)
    optimizer = adamw(model)
    grid = image[0] // size.patch, image[1] // size.patch
    for step in range(steps):
        set_positions(model, *grid)
        out = model(torch.from_numpy(pixels.transpose(0, 3, 1, 2)), noise=torch.from_numpy(noise), interpolate_pos_encoding=True)
        optimizer.zero_grad()
        out.loss.backward()
        losses.append(out.loss.item())
        if step == 0:
            _save(model, folder / "grads", gradients=True)
        optimizer.step()
    _save(model, folder / "end", gradients=False)
    return losses


def adamw(model: Any, **how: bool) -> torch.optim.Optimizer:
    """MAE's AdamW for a peer: no decay on biases and norms."""
    named = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
    plain = [parameter for name, parameter in named if name.endswith("bias") or "norm" in name]
    decayed = [parameter for name, parameter in named if not (name.endswith("bias") or "norm" in name)]
    groups = [{"params": decayed, "weight_decay": WEIGHT_DECAY}, {"params": plain, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=LEARNING_RATE, betas=(B1, B2), eps=EPSILON, **how)


def _save(model: Any, folder: pathlib.Path, gradients: bool) -> None:
    set_positions(model, 4, 4)
    values = {name: p.grad if gradients and p.requires_grad else p.detach() for name, p in model.named_parameters()}
    folder.mkdir()
    save_file(values, folder / "model.safetensors")


def read(folder: pathlib.Path, spec: ModelSpec) -> Params:
    """What a reference wrote, as our parameters; every one of them must be in the file."""
    params, report = load_published(str(folder), spec, abstract_model(spec).shapes)  # nothing is kept of the initial values
    random = [line for line in report if "stays random" in line]
    if random:
        raise AssertionError(f"not every parameter is in the file: {random}")
    return params


def run_jax(size: Size, image: tuple[int, int], steps: int, start: pathlib.Path) -> tuple[list[float], Params, Params]:
    """The same steps from the weights in ``start``.

    Returns:
      The loss before each step, the gradients of the first step and the parameters after all steps.
    """
    layout, spec = plain_mae(size.model, size.patch)
    model, (pixels, noise) = abstract_model(spec), draw(size, image)
    optimizer = optax.adamw(LEARNING_RATE, B1, B2, EPSILON, weight_decay=WEIGHT_DECAY, mask=decay_mask(model.names))
    ids = np.argsort(noise, axis=1)
    restore, count = np.argsort(ids, axis=1), round(ids.shape[1] * (1 - MASK_RATIO))
    masks = Masks((ids[:, :count],), (restore,), (restore >= count,), (np.ones(BATCH, bool),), (np.zeros(BATCH, np.float32),))
    member = {"pixels": pixels, "valid": np.ones(pixels.shape, bool), "grid_m": np.ones((BATCH, 4), np.float32)}
    member |= {"time": np.zeros((BATCH, 3), np.float32)}
    place = {"geosot": np.zeros((BATCH, 256), np.uint8), "lonlat_deg": np.zeros((BATCH, 3), np.float32)}
    batch, masks = jax.device_put(({"members": [member], "place": place}, masks))

    def loss_of(params: Params) -> jax.Array:
        (predicted,) = merge(model.graphdef, params)(layout, batch, masks)
        values, valid = (patchify(batch["members"][0][name], size.patch) for name in ("pixels", "valid"))
        errors_B, patches_B = reconstruction_loss(predicted, values, valid, masks.hidden[0], norm_pix=True)
        return errors_B.sum() / patches_B.sum()

    def update(params: Params, state: Any, grads: Params) -> tuple[Params, Any]:
        updates, state = optimizer.update(grads, state, params)
        return optax.apply_updates(params, updates), state  # pyright: ignore[reportReturnType]

    gradient, update = jax.jit(jax.value_and_grad(loss_of)), jax.jit(update, donate_argnums=(0, 1))
    params = jax.device_put(read(start, spec), may_alias=False)
    state, losses, first = jax.jit(optimizer.init)(params), [], {}
    for step in range(steps):
        with jax.default_matmul_precision("highest"):
            loss, grads = gradient(params)
        losses.append(float(loss))
        if step == 0:
            first = jax.tree.map(np.array, grads)
        params, state = update(params, state, grads)
    return losses, first, jax.device_get(params)


def tensors(params: Params) -> dict[str, np.ndarray]:
    """The parameters by name; those of stacked blocks, and queries, keys and values, taken apart."""
    found: dict[str, np.ndarray] = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        names = [part.key for part in path]
        if "layers" not in names:
            found[".".join(names)] = np.asarray(leaf)
            continue
        half, _, _, *rest = names
        for i, layer in enumerate(np.asarray(leaf)):
            block = [half, "blocks", str(i), *rest]
            if "qkv" not in block:
                found[".".join(block)] = layer
                continue
            for part, third in zip("qkv", np.split(layer, 3, axis=-1), strict=True):
                found[".".join(part if name == "qkv" else name for name in block)] = third
    return found


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    """Cosine of the angle between two tensors, in float64."""
    x, y = (value.astype(np.float64).ravel() for value in (a, b))
    return float(x @ y / np.sqrt((x @ x) * (y @ y)))


def compare(size: Size, image: tuple[int, int], steps: int, folder: pathlib.Path, theirs: list[float]) -> dict[str, float]:
    """Runs our side and compares it with what `run_torch` wrote and returned; prints the worst tensors."""
    _, spec = plain_mae(size.model, size.patch)
    ours, grads, params = run_jax(size, image, steps, folder / "start")
    ours_grads, their_grads = tensors(grads), tensors(read(folder / "grads", spec))
    seen = [key for key in ours_grads if not key.endswith(".attn.k.bias")]
    cosines = np.array([cosine(ours_grads[key], their_grads[key]) for key in seen])
    least = int(np.argmin(cosines))  # NaN counts as the least, and below as the largest
    ours_end, their_end = tensors(params), tensors(read(folder / "end", spec))
    gaps = {key: np.abs(value - their_end[key]) for key, value in ours_end.items()}
    most = list(gaps)[int(np.argmax([gap.max() for gap in gaps.values()]))]
    place = np.unravel_index(np.argmax(gaps[most]), gaps[most].shape)
    print(f"{image[0]} x {image[1]}: losses {', '.join(f'{a:.7f} and {b:.7f}' for a, b in zip(ours, theirs, strict=True))}")
    print(f"  least cosine of a gradient 1 - {1 - cosines[least]:.1e}, {seen[least]}")
    print(f"  largest gap of a parameter after {steps} steps {gaps[most].max():.1e}, {most}")
    print(f"  its gradients were {ours_grads[most][place]:.1e} and {their_grads[most][place]:.1e}; ", end="")
    print(f"{np.abs(their_grads[most]).mean():.1e} is the tensor's mean size", flush=True)
    rel = np.max(np.abs(np.array(ours) - np.array(theirs)) / np.abs(theirs))
    return {"loss_rel": float(rel), "grad_cos_min": float(cosines[least]), "param_max_abs": float(gaps[most].max())}


def worst_of(found: Sequence[dict[str, float]]) -> dict[str, float]:
    """The worst of each figure, NaN where one is."""
    return {name: float((np.min if name == "grad_cos_min" else np.max)([figures[name] for figures in found])) for name in LIMITS}


def broken(worst: dict[str, float]) -> list[str]:
    """Which limits are broken."""
    kept = {name: worst[name] >= limit if name == "grad_cos_min" else worst[name] <= limit for name, limit in LIMITS.items()}
    return [name for name in LIMITS if not kept[name]]


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures one size on all its images."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=SIZES, default="base")
    parser.add_argument("--steps", type=int, default=3)
    given = parser.parse_args(arguments)
    if given.steps < 1:
        parser.error(f"--steps={given.steps}: must be at least 1")
    return exit_code(lambda: _report(given.size, given.steps))


def _apart(function: Callable[..., Any], *given: Any) -> Any:
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *given).result()


def _report(size: str, steps: int) -> int:
    run, found = _apart if SIZES[size].apart else lambda function, *given: function(*given), []
    for image in SIZES[size].images:
        with tempfile.TemporaryDirectory() as name:
            given = SIZES[size], image, steps, pathlib.Path(name)
            found.append(run(compare, *given, run(run_torch, *given)))
    worst = worst_of(found)
    peak = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    print(f"peak memory {peak / 2**20:.1f} GiB")
    print(json.dumps(worst), flush=True)
    return 1 if broken(worst) else 0


if __name__ == "__main__":
    sys.exit(main())
