"""AdamW with linear warm-up, cosine decay to zero, global-norm clipping, and no weight decay on 1-D tensors."""

from typing import Any

import jax
import optax

from rsfm_jax.config import Config
from rsfm_jax.nn.stack import LAYERS_AXIS

REFERENCE_BATCH = 256


def learning_rate(config: Config) -> optax.Schedule:
    """The schedule: from zero to base_lr x batch / 256 over the warm-up, then a cosine that reaches zero as the last step is done."""
    peak = config.optim.base_lr * config.data.global_batch_size / REFERENCE_BATCH
    return optax.warmup_cosine_decay_schedule(0.0, peak, max(config.optim.warmup_steps, 1), config.train.steps)


def decay_mask(names: Any) -> Any:
    """Which parameters decay: those with at least two axes, not counting the stacking of layers.

    Args:
      names: Pytree of tuples of logical axis names.

    Returns:
      Pytree of bool.
    """
    return jax.tree.map(lambda axes: sum(name != LAYERS_AXIS for name in axes) >= 2, names, is_leaf=lambda x: isinstance(x, tuple))


def make_optimizer(config: Config, names: Any) -> optax.GradientTransformation:
    """The whole update rule.

    Args:
      config: The experiment.
      names: Logical axis names of the parameters.

    Returns:
      An optax transformation.
    """
    optim = config.optim
    return optax.chain(
        optax.clip_by_global_norm(optim.clip_norm),
        optax.adamw(learning_rate(config), b1=optim.b1, b2=optim.b2, weight_decay=optim.weight_decay, mask=decay_mask(names)),
    )
