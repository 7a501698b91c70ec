"""From the exported encoder's tokens to the feature maps that heads take.

Owns the one place that knows how `Encoded.layers` is laid out. The heads know only its result: a sequence of tapped layers, each
(B, D, h, w), all on one grid of patches.

Legend: B batch, T tokens of all members, D width, h w rows and columns of a member's patches.
"""

from collections.abc import Sequence

import torch

from rsfm_jax.torch.modeling_rsfm import Encoded, RSFMEncoder


def even_layers(depth: int, count: int) -> tuple[int, ...]:
    """Numbers of blocks to tap, evenly spaced, the last always among them; 5, 11, 17, 23 for 4 of 24.

    Args:
      depth: Blocks of the encoder.
      count: Layers to tap.

    Returns:
      ``count`` numbers, from 0, ascending.

    Raises:
      ValueError: more layers than blocks, or none.
    """
    if not 1 <= count <= depth:
        raise ValueError(f"count is {count}; expected 1 to {depth}, the encoder's number of blocks")
    return tuple((i + 1) * depth // count - 1 for i in range(count))


def layer_grids(
    model: RSFMEncoder, encoded: Encoded, member: int = 0, layers: Sequence[int] | None = None, norm: bool = False
) -> list[torch.Tensor]:
    """The tokens of one member after chosen blocks, as maps.

    Args:
      model: The encoder that made ``encoded``.
      encoded: Its result for ``return_layers=True``.
      member: Which member, counted from 0 in the order in which they were given.
      layers: Numbers of the blocks, from 0, negative ones from the end; None for all.
      norm: Apply the encoder's final norm to each layer; the last one then equals ``encoded.grids[member]``.

    Returns:
      For each layer (B, D, h, w).

    Raises:
      ValueError: the layers were not returned, or there is no such layer or member.
    """
    if not encoded.layers:
        raise ValueError("encoded holds no layers; call the encoder with return_layers=True")
    depth, members = len(encoded.layers), len(encoded.grids)
    if not 0 <= member < members:
        raise ValueError(f"member is {member}; expected 0 to {members - 1}, there are {members} members")
    chosen = range(depth) if layers is None else layers
    wrong = [i for i in chosen if not -depth <= i < depth]
    if wrong or not len(chosen):
        raise ValueError(f"layers are {list(chosen)}; expected at least one, each from {-depth} to {depth - 1}")
    sizes = [grid.shape[-2] * grid.shape[-1] for grid in encoded.grids]
    start = (0 if model.cls_token is None else 1) + sum(sizes[:member])
    grids = []
    for i in chosen:
        tokens = encoded.layers[i][:, start : start + sizes[member]]
        tokens = model.norm(tokens) if norm else tokens
        grids.append(tokens.transpose(1, 2).unflatten(2, encoded.grids[member].shape[-2:]))
    return grids
