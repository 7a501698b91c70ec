"""Patches to embeddings and back: a linear map for each kind of token slot, or maps generated from wavelengths.

Both give the encoder ``patch_embed(slot, patches)`` and the decoder ``pred(slot, tokens)``.

Legend: B batch, K patches, P values of a patch (pixels x bands, band fastest), D width, C bands, W width of the wave tokens.
"""

from flax import nnx
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from rsfm_jax.errors import InputError
from rsfm_jax.layouts import Slot
from rsfm_jax.models.spec import ModelSpec, slot_key
from rsfm_jax.nn.layers import Block, Linear
from rsfm_jax.nn.positions import sincos
from rsfm_jax.sensors import SENSORS, Band, get_sensor

WAVE_WIDTH = 128
WEIGHT_TOKENS = 128
_HEADS = 4


class SlotLinears(nnx.Module):
    """A linear map for each kind of token slot."""

    def __init__(self, spec: ModelSpec, width: int, embeds: bool, dtype: DTypeLike, rngs: nnx.Rngs) -> None:
        """Builds the maps.

        Args:
          spec: The model's spec.
          width: D.
          embeds: True for P to D, False for D to P.
          dtype: Compute dtype.
          rngs: Source of the initial parameters.
        """

        def one(values: int) -> Linear:
            sizes, axes = ((values, width), ("values", "embed")) if embeds else ((width, values), ("embed", "values"))
            return Linear(*sizes, axes, dtype, rngs)

        self.slots = nnx.Dict({slot_key(slot): one(slot.patch_values) for slot in spec.slots})

    def __call__(self, slot: Slot, x_BKX: Float[Array, "B K X"]) -> Float[Array, "B K Y"]:
        """Maps (B, K, P) to (B, K, D), or back; float32."""
        B, K, X = x_BKX.shape
        return self.slots[slot_key(slot)](x_BKX.reshape(B * K, X)).reshape(B, K, -1).astype(jnp.float32)


class WaveLinears(nnx.Module):
    """Linear maps generated from the bands' centre wavelengths and bandwidths, for any optical band; learned codes for the others.

    Wave tokens (codes of wavelength and bandwidth in nm through a residual MLP) pass one transformer block together with learned weight
    tokens and a bias token; each wave token then becomes its kernel. Kernels of C bands are divided by C, as in a mean: bands of real
    spectra go together, so one band and two hundred give embeddings of about one size.

    Source: DOFA (arXiv 2403.15356), wavelength-conditioned dynamic patch embedding. Ours: the bandwidth, the learned codes of polarisations
    and elevation, kernels that start at the size of Xavier's instead of a factor 0.01, and a last linear map for each patch size.
    """

    def __init__(self, spec: ModelSpec, width: int, embeds: bool, dtype: DTypeLike, rngs: nnx.Rngs) -> None:
        """Builds the generator; see `SlotLinears.__init__`."""
        self.width, self.embeds, self.dtype = width, embeds, dtype
        for slot in spec.slots:
            wave_codes(slot)  # names a band that has none, before anything is built
        tokens = nnx.with_partitioning(nnx.initializers.normal(0.02), (None, "features"))
        self.weight_tokens = nnx.Param(tokens(rngs.params(), (WEIGHT_TOKENS, WAVE_WIDTH)))
        self.bias_token = nnx.Param(tokens(rngs.params(), (1, WAVE_WIDTH)))
        self.codes = nnx.Dict({name: nnx.Param(tokens(rngs.params(), (1, WAVE_WIDTH))) for name in code_names()})
        self.fc1 = Linear(WAVE_WIDTH, WAVE_WIDTH, ("features", "features"), jnp.float32, rngs)
        self.fc2 = Linear(WAVE_WIDTH, WAVE_WIDTH, ("features", "features"), jnp.float32, rngs)
        self.block = Block(WAVE_WIDTH, _HEADS, 4.0, jnp.float32, rngs)
        self.bandwidth = Linear(WAVE_WIDTH, WAVE_WIDTH, ("features", "features"), jnp.float32, rngs)
        patches = sorted({slot.patch for slot in spec.slots})
        self.kernel = nnx.Dict({f"p{p}": _generated(p * p * width, (2.0 / (p * p + width)) ** 0.5, rngs) for p in patches})
        self.bias = nnx.Dict({f"p{p}": _generated(width if embeds else p * p, 0.02, rngs) for p in patches})

    def weights(self, slot: Slot) -> tuple[Float[Array, "X Y"], Float[Array, "Y"]]:
        """Kernel and bias of a slot's linear map: (P, D) and (D,), or (D, P) and (P,); float32."""
        waves_CW = self._waves(slot)
        C, (weights, place) = len(slot.bands), (WEIGHT_TOKENS, slot.patch * slot.patch)
        tokens = jnp.concatenate([self.weight_tokens[...], waves_CW, self.bias_token[...]])
        mixed = _normalised(self.block(tokens, len(tokens), jnp.ones((1, len(tokens)), bool)))
        waves, bias = mixed[weights : weights + C], mixed[weights + C :]
        kernels = self.kernel[f"p{slot.patch}"](waves).reshape(C, place, self.width)
        if self.embeds:
            return kernels.transpose(1, 0, 2).reshape(place * C, self.width) / C, self.bias[f"p{slot.patch}"](bias)[0]
        biases = self.bias[f"p{slot.patch}"](waves + bias)
        return kernels.transpose(2, 1, 0).reshape(self.width, place * C), biases.T.reshape(-1)

    def _waves(self, slot: Slot) -> jax.Array:
        codes = wave_codes(slot)
        wavelength_C, bandwidth_C = jnp.array([(0.0, 0.0) if isinstance(code, str) else code for code in codes], jnp.float32).T
        waves_CW = sincos(wavelength_C, WAVE_WIDTH) + self.bandwidth(sincos(bandwidth_C, WAVE_WIDTH))
        for i, code in enumerate(codes):
            if isinstance(code, str):
                waves_CW = waves_CW.at[i].set(self.codes[code][0])
        return waves_CW + self.fc2(jax.nn.gelu(self.fc1(waves_CW), approximate=False))

    def __call__(self, slot: Slot, x_BKX: Float[Array, "B K X"]) -> Float[Array, "B K Y"]:
        """Maps (B, K, P) to (B, K, D), or back; float32."""
        kernel, bias = (w.astype(self.dtype) for w in self.weights(slot))
        B, K, X = x_BKX.shape
        return (x_BKX.reshape(B * K, X).astype(self.dtype) @ kernel + bias).reshape(B, K, -1).astype(jnp.float32)


def _generated(outputs: int, size: float, rngs: nnx.Rngs) -> Linear:
    """A linear map from a normalised wave token to values of standard deviation ``size``."""
    return Linear(WAVE_WIDTH, outputs, ("features", "embed"), jnp.float32, rngs, nnx.initializers.normal(size / WAVE_WIDTH**0.5))


def _normalised(x_XW: jax.Array) -> jax.Array:
    centred = x_XW - x_XW.mean(axis=-1, keepdims=True)
    return centred * jax.lax.rsqrt(jnp.square(centred).mean(axis=-1, keepdims=True) + 1e-6)


def _code_name(band: Band) -> str | None:
    if band.kind == "sar":
        return f"sar_{band.polarisation}"
    return band.kind if band.kind == "elevation" else None


def code_names() -> list[str]:
    """Learned codes of the bands that have no wavelength, over the whole registry."""
    names = {_code_name(band) for sensor in SENSORS.values() for band in sensor.bands.values()}
    return sorted(name for name in names if name)


def wave_codes(slot: Slot) -> list[str | tuple[float, float]]:
    """For each band of a slot its centre wavelength and bandwidth in nm, or the name of its learned code.

    Raises:
      InputError: an optical or thermal band without a wavelength or bandwidth.
    """
    codes: list[str | tuple[float, float]] = []
    for name in slot.bands:
        band = get_sensor(slot.sensor).band(name)
        code = _code_name(band)
        if code is None and (band.wavelength_nm is None or band.bandwidth_nm is None):
            raise InputError(
                f"config.tokenizer.kind='wavelength': band {name!r} of {slot.sensor} has no wavelength_nm and bandwidth_nm in "
                "rsfm_jax/sensors.py; add them there, or use kind='groups'"
            )
        codes.append(code or (float(band.wavelength_nm or 0), float(band.bandwidth_nm or 0)))
    return codes


def make_linears(spec: ModelSpec, width: int, embeds: bool, dtype: DTypeLike, rngs: nnx.Rngs) -> SlotLinears | WaveLinears:
    """The maps that ``tokenizer.kind`` asks for; see `SlotLinears.__init__`."""
    kind = WaveLinears if spec.tokenizer.kind == "wavelength" else SlotLinears
    return kind(spec, width, embeds, dtype, rngs)
