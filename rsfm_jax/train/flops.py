"""Floating-point operations of a train step, counted from shapes: what a compiler counts wrongly in loops, and MFU is measured against.

Products alone are counted, two operations for each multiply and add: the encoder on visible tokens, the decoder on all. Recomputation is
not: a run that recomputes does more work for the same step. Tokens that attend within groups are counted as attending to all, for so they
are computed.
"""

from rsfm_jax.config import Config, ModelConfig
from rsfm_jax.layouts import Layout
from rsfm_jax.models.spec import token_layout
from rsfm_jax.objectives.masking import visible_count

BACKWARD = 2  # the backward pass does two products for each of the forward


def stack_flops(tokens: int, width: int, depth: int, mlp_ratio: float) -> int:
    """Forward operations of a stack of blocks on one example.

    Args:
      tokens: Tokens of the example.
      width: Their width.
      depth: Blocks.
      mlp_ratio: Hidden width of the MLPs over the width.

    Returns:
      FLOPs.
    """
    hidden = int(width * mlp_ratio)
    projections = 2 * tokens * width * (4 * width + 2 * hidden)
    attention = 2 * 2 * tokens * tokens * width
    return depth * (projections + attention)


def step_flops(config: Config, layout: Layout) -> int:
    """Operations of one train step, forward and backward, for one image set.

    Args:
      config: The experiment.
      layout: The set's layout.

    Returns:
      FLOPs.
    """
    model: ModelConfig = config.model
    slots = token_layout(layout, config.tokenizer).layout.slots
    extra = int(model.cls_token)
    shown = [visible_count(slot, config.mask.ratio) for slot in slots]
    whole = [slot.grid**2 for slot in slots]
    encoder = stack_flops(sum(shown) + extra, model.width, model.depth, model.mlp_ratio)
    decoder = stack_flops(sum(whole) + extra, model.decoder_width, model.decoder_depth, model.mlp_ratio)
    embeddings = sum(2 * count * slot.patch_values * model.width for count, slot in zip(shown, slots, strict=True))
    bridge = 2 * (sum(shown) + extra) * model.width * model.decoder_width
    heads = sum(2 * count * slot.patch_values * model.decoder_width for count, slot in zip(whole, slots, strict=True))
    return (1 + BACKWARD) * (encoder + decoder + embeddings + bridge + heads)
