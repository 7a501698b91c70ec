"""The in-loop probe: every so many steps, what a nearest-neighbour vote and a linear map make of the frozen features of a labelled set.

All of it runs on the devices and is dispatched like a step; its figures are read with the step's metrics, a step late. How often it comes
is bounded by its share of the floating-point operations.

Legend: N chips, T chips to test, K neighbours, C classes, D width.
"""

from collections.abc import Callable
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rsfm_jax.config import Config
from rsfm_jax.errors import InputError
from rsfm_jax.models.build import Params, merge
from rsfm_jax.models.one_image import one_image_batch
from rsfm_jax.models.spec import RANDOM_BANDS, slot_key, token_layout
from rsfm_jax.nn.placing import placed_by
from rsfm_jax.parallel.sharding import batch_sharding, placement, replicated
from rsfm_jax.train.flops import stack_flops, step_flops
from rsfm_jax.train.probe_set import ProbeSet
from rsfm_jax.train.program import Program

FLOPS_SHARE = 0.01  # of the steps' operations, where config.probe.every leaves it open
_CHUNK = 16  # chips of each shard encoded at once
_NEIGHBOURS, _TEMPERATURE, _RIDGE = 20, 0.07, 1e-2
Figures = dict[str, jax.Array]


def probe_flops(config: Config, data: ProbeSet) -> int:
    """Operations of one probe: all chips through the encoder, all patches visible."""
    slots, model = token_layout(data.layout, config.tokenizer).layout.slots, config.model
    tokens = sum(slot.tokens for slot in slots) + int(model.cls_token)
    embeddings = sum(2 * slot.tokens * slot.patch_values * model.width for slot in slots)
    return len(data.labels) * (stack_flops(tokens, model.width, model.depth, model.mlp_ratio) + embeddings)


def probe_every(config: Config, program: Program, data: ProbeSet) -> int:
    """Steps between two probes: as the config says, else as many as keep the probe's share of the operations at `FLOPS_SHARE`.

    Raises:
      InputError: the config asks for more than twice that share.
    """
    step = min(config.data.global_batch_size * step_flops(config, layout) for layout in program.layouts)
    share = probe_flops(config, data) / step
    if not config.probe.every:
        return max(100, math.ceil(share / FLOPS_SHARE))
    if share / config.probe.every > 2 * FLOPS_SHARE:
        raise InputError(
            f"config.probe.every={config.probe.every}: the probe of {len(data.labels)} chips would take {share / config.probe.every:.0%} "
            f"of the operations; give at least {math.ceil(share / (2 * FLOPS_SHARE))}, fewer chips, or 0 to let it be chosen"
        )
    return config.probe.every


def make_probe(config: Config, program: Program, data: ProbeSet) -> Callable[[Params], Figures]:
    """A function of the parameters that dispatches the probe and returns its figures, still on the devices.

    Args:
      config: The experiment.
      program: The program; its parameters may be held one array a layer.
      data: The labelled set.

    Returns:
      A function of params to ``probe_knn`` and ``probe_linear``, accuracies on the chips to test.

    Raises:
      InputError: the model has no patch embedding for the set's kind of input.
    """
    tokens = token_layout(data.layout, config.tokenizer)
    known = {slot_key(slot) for slot in program.spec.slots}
    unknown = [slot_key(slot) for slot in tokens.layout.slots if slot_key(slot) not in known]
    if unknown:
        raise InputError(
            f"config.probe.path={config.probe.path}: the model knows no {', '.join(unknown)}; it knows {', '.join(sorted(known))}"
        )
    mesh, graphdef, first = program.mesh, program.model.graphdef, int(config.model.cls_token)

    def encode(params: Params, batch: dict[str, Any]) -> jax.Array:
        with placed_by(placement(mesh)):
            x_BTD, real_BT = merge(graphdef, params).encoder(tokens.layout, batch)
        weight = real_BT[:, first:, None].astype(jnp.float32)
        return (x_BTD[:, first:] * weight).sum(axis=1) / jnp.maximum(weight.sum(axis=1), 1.0)

    encoder = jax.jit(encode, out_shardings=replicated(mesh))
    scorer = jax.jit(lambda parts: score(jnp.concatenate(parts), data), out_shardings=replicated(mesh))
    chunks = _chunks(program, data, tokens.columns)
    return lambda params: scorer([encoder(params, chunk) for chunk in chunks])


def score(features_XD: jax.Array, data: ProbeSet) -> Figures:
    """Accuracies of two probes of standardised features.

    Args:
      features_XD: float32 (N and padding, D).
      data: The set.

    Returns:
      ``probe_knn``, a vote of the 20 nearest by cosine, weighted as in DINO (arXiv 2104.14294, appendix F.1), and ``probe_linear``, ridge
      regression onto the classes.
    """
    features = features_XD[: len(data.labels)]
    learn, test = features[~data.test], features[data.test]
    mean, std = learn.mean(axis=0), learn.std(axis=0) + 1e-6
    learn, test = (learn - mean) / std, (test - mean) / std
    onehot = jax.nn.one_hot(data.labels[~data.test], data.classes)
    truth = data.labels[data.test]
    unit = lambda x: x / jnp.linalg.norm(x, axis=1, keepdims=True)  # noqa: E731
    near, which = jax.lax.top_k(unit(test) @ unit(learn).T, min(_NEIGHBOURS, len(learn)))
    votes = (jnp.exp(near / _TEMPERATURE)[..., None] * onehot[which]).sum(axis=1)
    gram = learn.T @ learn + _RIDGE * len(learn) * jnp.eye(learn.shape[1])
    linear = test @ jnp.linalg.solve(gram, learn.T @ (onehot - onehot.mean(axis=0))) + onehot.mean(axis=0)
    return {name: (jnp.argmax(guess, axis=1) == truth).mean() for name, guess in (("probe_knn", votes), ("probe_linear", linear))}


def _chunks(program: Program, data: ProbeSet, columns: tuple[tuple[int, ...] | None, ...]) -> list[dict[str, Any]]:
    """The set in batches on the mesh, the last one padded."""
    placed, mesh = batch_sharding(program.mesh), program.mesh
    rows = _CHUNK * mesh.shape["data"] * mesh.shape["fsdp"]
    chunks = []
    for start in range(0, len(data.labels), rows):
        pixels, valid = (_padded(x[start : start + rows], rows) for x in (data.pixels, data.valid))
        drawn = [i % pixels.shape[-1] for i in range(RANDOM_BANDS)]
        bands = [drawn if chosen is None else list(chosen) for chosen in columns]
        batch = one_image_batch([(pixels[..., b], valid[..., b]) for b in bands], data.slot.gsd_m)
        chunks.append(jax.tree.map(lambda x: jax.make_array_from_callback(x.shape, placed, lambda index, x=x: x[index]), batch))
    return chunks


def _padded(x: np.ndarray, rows: int) -> np.ndarray:
    return np.pad(x, ((0, rows - len(x)), *[(0, 0)] * (x.ndim - 1)))
