"""The parts of a transformer block. Parameters are float32 and carry logical axis names; products run in the compute dtype.

Logical axes: 'embed' (width), 'mlp' (hidden width of the MLP), 'heads' (heads x head dim, also of fused qkv), 'values' (values of a
patch), 'features' (inputs of small projections), 'layers' (stacked blocks). What they mean on a mesh is `rsfm_jax.parallel.sharding`'s
business.

Tokens of all examples are flattened to (B * T, D) between attentions: one large product is faster than B small ones.

Legend: B batch, T tokens, D width, A heads, E head dim.
"""

from flax import nnx
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float
import numpy as np

from rsfm_jax.nn.attention import ATTENTIONS
from rsfm_jax.nn.placing import place_weight

LAYER_NORM_EPSILON = 1e-6


class Linear(nnx.Module):
    """A linear layer."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        axes: tuple[str, str],
        dtype: DTypeLike,
        rngs: nnx.Rngs,
        kernel_init: nnx.Initializer | None = None,
    ) -> None:
        """Builds the layer; its kernel is (inputs, outputs).

        Args:
          inputs: Width of the input.
          outputs: Width of the output.
          axes: Logical names of the kernel's two axes.
          dtype: Compute dtype.
          rngs: Source of the initial kernel.
          kernel_init: How the kernel is drawn; Xavier-uniform by default, as in MAE. The bias starts at zero.
        """
        kernel_init = kernel_init or nnx.initializers.xavier_uniform()
        self.axes, self.dtype = axes, dtype
        self.kernel = nnx.Param(nnx.with_partitioning(kernel_init, axes)(rngs.params(), (inputs, outputs)))
        self.bias = nnx.Param(nnx.with_partitioning(nnx.initializers.zeros_init(), (axes[1],))(rngs.params(), (outputs,)))

    def __call__(self, x_XI: Float[Array, "X I"]) -> Float[Array, "X O"]:
        """Maps (X, inputs) to (X, outputs), in the compute dtype."""
        kernel = place_weight(jnp.asarray(self.kernel[...], self.dtype), self.axes)
        return jnp.asarray(x_XI, self.dtype) @ kernel + jnp.asarray(self.bias[...], self.dtype)


def token(width: int, rngs: nnx.Rngs) -> nnx.Param:
    """A learned vector (D,), drawn from N(0, 0.02)."""
    return nnx.Param(nnx.with_partitioning(nnx.initializers.normal(0.02), ("embed",))(rngs.params(), (width,)))


def layer_norm(width: int, rngs: nnx.Rngs) -> nnx.LayerNorm:
    """Layer normalisation in float32 with epsilon 1e-6."""
    return nnx.LayerNorm(
        width,
        epsilon=LAYER_NORM_EPSILON,
        use_fast_variance=False,
        scale_init=nnx.with_partitioning(nnx.initializers.ones_init(), ("embed",)),
        bias_init=nnx.with_partitioning(nnx.initializers.zeros_init(), ("embed",)),
        dtype=jnp.float32,
        param_dtype=jnp.float32,
        rngs=rngs,
    )


class Attention(nnx.Module):
    """Multi-head self-attention with fused qkv."""

    def __init__(self, width: int, heads: int, dtype: DTypeLike, rngs: nnx.Rngs, attention: str = "plain") -> None:
        """Builds the projections.

        Args:
          width: D.
          heads: A; divides D.
          dtype: Compute dtype.
          rngs: Source of the initial parameters.
          attention: Key of `ATTENTIONS`.
        """
        self.heads, self.attention = heads, attention
        self.qkv = Linear(width, 3 * width, ("embed", "heads"), dtype, rngs)
        self.proj = Linear(width, width, ("heads", "embed"), dtype, rngs)

    def __call__(
        self, x_XD: Float[Array, "X D"], tokens: int, real_BT: Bool[Array, "B T"], groups_T: np.ndarray | None = None
    ) -> Float[Array, "X D"]:
        """Attends within each example.

        Args:
          x_XD: Tokens of all examples, (B * T, D).
          tokens: T.
          real_BT: Which tokens hold an observation.
          groups_T: Number of each token's group; see `rsfm_jax.nn.attention`.

        Returns:
          (B * T, D) in the compute dtype.
        """
        width = x_XD.shape[-1]
        qkv = self.qkv(x_XD).reshape(-1, tokens, 3, self.heads, width // self.heads)
        mixed = ATTENTIONS[self.attention](qkv[:, :, 0], qkv[:, :, 1], qkv[:, :, 2], real_BT, groups_T)
        return self.proj(mixed.reshape(-1, width))


def gelu(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """The exact GELU, by erf in float32; `jax.nn.gelu` takes erfc, which costs several times as much on a CPU."""
    wide = x.astype(jnp.float32)
    return (0.5 * wide * (1.0 + jax.lax.erf(wide * 0.5**0.5))).astype(x.dtype)


class Mlp(nnx.Module):
    """Two linear layers with the exact (erf) GELU between them."""

    def __init__(self, width: int, hidden: int, dtype: DTypeLike, rngs: nnx.Rngs) -> None:
        """Builds the layers.

        Args:
          width: D.
          hidden: Hidden width.
          dtype: Compute dtype.
          rngs: Source of the initial parameters.
        """
        self.fc1 = Linear(width, hidden, ("embed", "mlp"), dtype, rngs)
        self.fc2 = Linear(hidden, width, ("mlp", "embed"), dtype, rngs)

    def __call__(self, x_XD: Float[Array, "X D"]) -> Float[Array, "X D"]:
        """Applies the MLP to (B * T, D)."""
        return self.fc2(gelu(self.fc1(x_XD)))


class Block(nnx.Module):
    """A pre-norm transformer block; the residual stream is float32."""

    def __init__(self, width: int, heads: int, mlp_ratio: float, dtype: DTypeLike, rngs: nnx.Rngs, attention: str = "plain") -> None:
        """Builds the block.

        Args:
          width: D.
          heads: A.
          mlp_ratio: Hidden width over D.
          dtype: Compute dtype.
          rngs: Source of the initial parameters.
          attention: Key of `rsfm_jax.nn.attention.ATTENTIONS`.
        """
        self.norm1 = layer_norm(width, rngs)
        self.attn = Attention(width, heads, dtype, rngs, attention)
        self.norm2 = layer_norm(width, rngs)
        self.mlp = Mlp(width, int(width * mlp_ratio), dtype, rngs)

    def __call__(
        self, x_XD: Float[Array, "X D"], tokens: int, real_BT: Bool[Array, "B T"], groups_T: np.ndarray | None = None
    ) -> Float[Array, "X D"]:
        """Applies the block to (B * T, D); see `Attention.__call__` for the arguments."""
        x_XD = x_XD + self.attn(self.norm1(x_XD), tokens, real_BT, groups_T).astype(jnp.float32)
        return x_XD + self.mlp(self.norm2(x_XD)).astype(jnp.float32)
