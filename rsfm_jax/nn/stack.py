"""A stack of equal blocks: parameters with a leading layer axis, run by one scan, recomputed as asked.

Legend: B batch, T tokens, D width, L layers.
"""

from typing import Any

from flax import nnx
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float
import numpy as np

from rsfm_jax.nn.apart import LAYERS_AXIS, any_apart, layer
from rsfm_jax.nn.layers import Block
from rsfm_jax.nn.placing import place_rows


class BlockStack(nnx.Module):
    """``depth`` blocks whose parameters are stacked along a leading axis named 'layers'."""

    def __init__(
        self,
        width: int,
        depth: int,
        heads: int,
        mlp_ratio: float,
        dtype: DTypeLike,
        remat: str,
        unroll: int,
        rngs: nnx.Rngs,
        attention: str = "plain",
    ) -> None:
        """Initialises every block with its own key.

        Args:
          width: D.
          depth: L.
          heads: Attention heads.
          mlp_ratio: Hidden width of the MLPs over D.
          dtype: Compute dtype.
          remat: "none", "dots" (keep matrix products, recompute the rest) or "full".
          unroll: Blocks per scan iteration; 0 unrolls all.
          rngs: Source of the initial parameters.
          attention: Key of `rsfm_jax.nn.attention.ATTENTIONS`.
        """
        self.depth, self.remat, self.unroll = depth, remat, unroll or depth

        def build(key: jax.Array) -> nnx.State:
            return nnx.state(Block(width, heads, mlp_ratio, dtype, nnx.Rngs(key), attention))

        one = nnx.eval_shape(lambda: Block(width, heads, mlp_ratio, dtype, nnx.Rngs(0), attention))
        stacked = jax.vmap(build)(jax.random.split(rngs.params(), depth))
        for _, variable in nnx.to_flat_state(stacked):
            names = variable.get_metadata().get("out_sharding")
            variable.set_metadata(out_sharding=(LAYERS_AXIS, *names))
        self.layers = nnx.merge(nnx.graphdef(one), stacked)

    def __call__(
        self, x_BTD: Float[Array, "B T D"], real_BT: Bool[Array, "B T"], groups_T: np.ndarray | None = None
    ) -> Float[Array, "B T D"]:
        """Runs all blocks.

        Args:
          x_BTD: float32 tokens.
          real_BT: Which tokens hold an observation.
          groups_T: Number of each token's group, int (T,): tokens attend within their group; None: all to all.

        Returns:
          float32 (B, T, D).
        """
        return self._run(x_BTD, real_BT, groups_T, False)[0]

    def layer_by_layer(
        self, x_BTD: Float[Array, "B T D"], real_BT: Bool[Array, "B T"], groups_T: np.ndarray | None = None
    ) -> Float[Array, "L B T D"]:
        """Runs all blocks and returns what each of them gives, float32 (L, B, T, D); see `__call__`."""
        return self._run(x_BTD, real_BT, groups_T, True)[1]

    def _run(self, x_BTD: jax.Array, real_BT: jax.Array, groups_T: np.ndarray | None, every: bool) -> tuple[jax.Array, Any]:
        """The last block's output, and every block's where asked for."""
        B, T, D = x_BTD.shape
        graphdef, state = nnx.split(self.layers)

        def run(x_XD: jax.Array, block: nnx.State) -> tuple[jax.Array, jax.Array | None]:
            x_XD = place_rows(nnx.merge(graphdef, block)(place_rows(x_XD), T, real_BT, groups_T))
            return x_XD, x_XD if every else None

        if self.remat != "none":
            policy = jax.checkpoint_policies.dots_with_no_batch_dims_saveable if self.remat == "dots" else None
            run = jax.checkpoint(run, policy=policy)
        x_XD, seen = x_BTD.reshape(B * T, D), []
        if any_apart(state):
            for i in range(self.depth):
                x_XD, x = run(x_XD, layer(state, i))
                seen.append(x)
            layers = jnp.stack(seen) if every else None
        else:
            x_XD, layers = jax.lax.scan(run, x_XD, state, unroll=self.unroll)
        return x_XD.reshape(B, T, D), None if layers is None else layers.reshape(self.depth, B, T, D)
