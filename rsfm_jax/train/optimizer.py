"""AdamW with linear warm-up, cosine decay to zero, global-norm clipping, and no weight decay on biases and norms."""

from typing import Any

import jax
import optax

from rsfm_jax.config import Config

REFERENCE_BATCH = 256


def learning_rate(config: Config) -> optax.Schedule:
    """The schedule: from zero to base_lr x batch / 256 over the warm-up, then a cosine that reaches zero as the last step is done."""
    peak = config.optim.base_lr * config.data.global_batch_size / REFERENCE_BATCH
    return optax.warmup_cosine_decay_schedule(0.0, peak, max(config.optim.warmup_steps, 1), config.train.steps)


def decay_mask(names: Any) -> Any:
    """Which parameters decay: all but biases and the scales of norms, as in MAE's code, where tokens have three axes.

    Args:
      names: Pytree with the parameters' structure.

    Returns:
      Pytree of bool.
    """

    def decays(path: tuple[Any, ...], _: tuple[str, ...]) -> bool:
        return path[-1].key not in ("bias", "scale")

    return jax.tree_util.tree_map_with_path(decays, names, is_leaf=lambda x: isinstance(x, tuple))


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
        optax.clip_by_global_norm(optim.clip_norm or float("inf")),
        optax.adamw(learning_rate(config), b1=optim.b1, b2=optim.b2, weight_decay=optim.weight_decay, mask=decay_mask(names)),
    )
