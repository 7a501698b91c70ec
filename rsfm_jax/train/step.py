"""The train step: one pure function, jitted once per layout, with explicit shardings and donation.

Legend: B batch, N patches of a member, P values of a patch.
"""

from collections.abc import Callable
from typing import Any
import zlib

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
import optax

from rsfm_jax.config import Config
from rsfm_jax.layouts import Layout
from rsfm_jax.models.build import AbstractModel, Params, merge
from rsfm_jax.nn.patchify import patchify
from rsfm_jax.nn.placing import place_rows, placed_by
from rsfm_jax.objectives.augment import augment
from rsfm_jax.objectives.masking import Masks, sample_masks
from rsfm_jax.objectives.reconstruction import reconstruction_loss
from rsfm_jax.objectives.views import View, whole_view, withhold
from rsfm_jax.parallel.sharding import batch_sharding, placement, replicated
from rsfm_jax.train.optimizer import learning_rate
from rsfm_jax.train.state import TrainState

Batch = dict[str, Any]
Metrics = dict[str, jax.Array]
Step = Callable[[TrainState, Batch], tuple[TrainState, Metrics]]


def example_keys(seed: int, layout: Layout, global_index_B: jax.Array) -> jax.Array:
    """One random key per example, a function of the seed, the layout's name and the global index alone."""
    root = jax.random.fold_in(jax.random.key(seed), zlib.crc32(layout.name.encode()))
    return jax.vmap(lambda index: jax.random.fold_in(root, index))(global_index_B)


def read_batch(config: Config, layout: Layout, batch: Batch) -> tuple[View, Masks]:
    """What the model reads of a batch in training, and its masks."""
    keys_B4 = jax.vmap(lambda key: jax.random.split(key, 4))(example_keys(config.train.seed, layout, batch["global_index"]))
    view = whole_view(config, layout, keys_B4[:, 0], augment(config.augment, keys_B4[:, 3], batch))
    grids, times = ([member[name] for member in view.batch["members"]] for name in ("grid_m", "time"))
    masks = sample_masks(keys_B4[:, 1], view.layout, config.mask, grids, times, real_patches(view))
    return withhold(config, keys_B4[:, 2], view), masks


def real_patches(view: View) -> list[jax.Array]:
    """Which patches hold a valid value, bool (B, N) for each token slot."""
    return [patchify(valid, slot.patch).any(axis=-1) for slot, valid in zip(view.layout.slots, view.valid, strict=True)]


def predict(model: AbstractModel, params: Params, view: View, masks: Masks) -> list[jax.Array]:
    """Predictions for every patch, in the terms of `target_scale`, per token slot float32 (B, N, P)."""
    return merge(model.graphdef, params)(view.layout, view.batch, masks, real_patches(view))


def scored_patches(view: View, masks: Masks) -> jax.Array:
    """How many hidden patches of the batch have a valid value, for each token slot float32 (T,)."""
    return jnp.stack([(hidden & real).sum() for hidden, real in zip(masks.hidden, real_patches(view), strict=True)]).astype(jnp.float32)


def loss_fn(
    params: Params, model: AbstractModel, config: Config, layout: Layout, batch: Batch, scored_T: jax.Array | None = None
) -> tuple[jax.Array, Metrics]:
    """The loss of a batch: each token slot's mean error over its hidden patches, then the mean over slots that have any.

    Args:
      params: Parameters.
      model: The model's definition.
      config: The experiment.
      layout: The batch's layout.
      batch: From `rsfm_jax.data.stream`.
      scored_T: Patches that the means are over, where this is a part of a larger batch: its part of the whole batch's loss is returned.

    Returns:
      The loss, and ``slot_losses`` (T,), ``slot_leaks`` (T,) and ``example_errors`` (B,) for the log.
    """
    view, masks = read_batch(config, layout, batch)
    scored_T = scored_patches(view, masks) if scored_T is None else scored_T
    predictions = predict(model, params, view, masks)
    slot_errors, example_errors = [], jnp.zeros(batch["global_index"].shape)
    parts = zip(view.layout.slots, view.batch["members"], view.valid, predictions, masks.hidden, strict=True)
    for slot, member, valid, predicted, hidden in parts:
        values, observed = patchify(member["pixels"], slot.patch), patchify(valid, slot.patch)
        errors_B, patches_B = reconstruction_loss(predicted, values, observed, hidden, config.loss.norm_pix)
        slot_errors.append(errors_B.sum())
        example_errors += errors_B / jnp.maximum(patches_B, 1.0) / len(view.layout.slots)
    slot_losses = jnp.stack(slot_errors) / jnp.maximum(scored_T, 1.0)
    loss = slot_losses.sum() / jnp.maximum((scored_T > 0).sum(), 1)
    leaks = jnp.stack([leak_B.mean() for leak_B in masks.leaks])
    return loss, {"slot_losses": slot_losses, "slot_leaks": leaks, "example_errors": example_errors}


def loss_and_gradient(
    params: Params, model: AbstractModel, config: Config, layout: Layout, batch: Batch
) -> tuple[tuple[jax.Array, Metrics], Params]:
    """The loss of a batch, its metrics and its gradient, worked out in ``train.microbatches`` parts one after the other.

    The parts' sum is the loss of the whole: means are over the patches of all of them. A part takes rows from every device.

    Its arguments are those of `loss_fn` without ``scored_T``.

    Returns:
      As ``jax.value_and_grad`` of `loss_fn`.
    """
    parts, of = config.train.microbatches, jax.value_and_grad(loss_fn, has_aux=True)
    if parts == 1:
        return of(params, model, config, layout, batch)
    scored_T = scored_patches(*read_batch(config, layout, batch))
    split = jax.tree.map(lambda x: jnp.moveaxis(x.reshape(-1, parts, *x.shape[1:]), 1, 0), batch)

    def add(sums: Any, part: Batch) -> tuple[Any, jax.Array]:
        (loss, metrics), gradient = of(params, model, config, layout, place_rows(part), scored_T)
        errors = metrics.pop("example_errors")
        return jax.tree.map(jnp.add, sums, (loss, metrics, gradient)), errors

    zeros_T = jnp.zeros_like(scored_T)
    start = jnp.zeros(()), {"slot_losses": zeros_T, "slot_leaks": zeros_T}, jax.tree.map(jnp.zeros_like, params)
    (loss, metrics, gradient), errors = jax.lax.scan(add, start, split)
    metrics |= {"slot_leaks": metrics["slot_leaks"] / parts, "example_errors": errors.T.reshape(-1)}
    return (loss, metrics), gradient


def make_step(
    model: AbstractModel, optimizer: optax.GradientTransformation, config: Config, layout: Layout, abstract: TrainState, mesh: Mesh
) -> Step:
    """The jitted train step of one layout.

    Args:
      model: The model's definition.
      optimizer: The update rule.
      config: The experiment.
      layout: The layout.
      abstract: Shapes and shardings of the state.
      mesh: The mesh.

    Returns:
      A function of (state, batch) to (state, metrics); the state given is donated. Metrics: ``loss``, ``slot_losses``,
      ``slot_leaks``, ``example_errors``, ``grad_norm``, ``lr``.
    """
    schedule = learning_rate(config)

    def step(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        with placed_by(placement(mesh)):
            (loss, metrics), grads = loss_and_gradient(state.params, model, config, layout, batch)
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        metrics |= {"loss": loss, "grad_norm": optax.tree.norm(grads), "lr": jnp.asarray(schedule(state.step))}
        return TrainState(state.step + 1, params, opt_state), metrics

    placed = jax.tree.map(lambda leaf: leaf.sharding, abstract)
    return jax.jit(step, in_shardings=(placed, batch_sharding(mesh)), out_shardings=(placed, replicated(mesh)), donate_argnums=0)
