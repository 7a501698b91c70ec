"""Where on Earth a set lies: codes of its footprint or its centre.

Legend: B batch.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float, UInt8

from rsfm_jax.nn.positions import sincos

GEOSOT_FEATURES = 256
CARTESIAN_FEATURES = 3


def geosot_features(bits_BF: UInt8[Array, "B 256"]) -> Float[Array, "B 256"]:
    """GeoSOT bits of a footprint (`rsfm_jax.geo.geosot_bits`) as float32 zeros and ones.

    Source: A2-MAE (arXiv 2406.08079), geographic encoding of the released code.
    """
    return bits_BF.astype(jnp.float32)


def cartesian_features(lonlat_deg_B2: Float[Array, "B 2"]) -> Float[Array, "B 3"]:
    """The centre as a unit vector from the centre of the Earth, float32 (B, 3).

    Source: Presto (arXiv 2304.14065), location token.
    """
    lon, lat = jnp.deg2rad(lonlat_deg_B2[:, 0]), jnp.deg2rad(lonlat_deg_B2[:, 1])
    return jnp.stack([jnp.cos(lat) * jnp.cos(lon), jnp.cos(lat) * jnp.sin(lon), jnp.sin(lat)], axis=-1)


def prithvi_place(lonlat_deg_B2: Float[Array, "B 2"], width: int) -> Float[Array, "B {width}"]:
    """Codes of latitude and longitude in degrees, half of the width each, latitude first, float32 (B, D).

    Source: Prithvi-EO-2.0 (arXiv 2412.02732), location encoding.
    """
    return jnp.concatenate([sincos(lonlat_deg_B2[:, 1], width // 2), sincos(lonlat_deg_B2[:, 0], width // 2)], axis=-1)
