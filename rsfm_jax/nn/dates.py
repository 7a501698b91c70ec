"""When a member was seen: codes of its acquisition date.

A date is known (1 or 0), year, and day of year counted from 0 with the fraction of the day.

Legend: B batch.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float

from rsfm_jax.nn.positions import sincos

EPOCH_YEAR = 2000.0
YEAR_FEATURES = 16
SEASON_HARMONICS = 4
TIME_FEATURES = YEAR_FEATURES + 2 * SEASON_HARMONICS
DAYS_PER_YEAR = 365.2425
_SATMAE_EPOCH_YEAR = 2002.0
_MONTH_STARTS = (31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334)


def time_features(time_B3: Float[Array, "B 3"]) -> Float[Array, "B F"]:
    """Features of acquisition dates.

    Args:
      time_B3: Known (1 or 0), year, day of year; float32.

    Returns:
      float32 (B, TIME_FEATURES): codes of the years since 2000 and harmonics of the season.
    """
    season = 2 * jnp.pi * time_B3[:, 2:3] / DAYS_PER_YEAR * jnp.arange(1.0, SEASON_HARMONICS + 1)
    return jnp.concatenate([sincos(time_B3[:, 1] - EPOCH_YEAR, YEAR_FEATURES), jnp.sin(season), jnp.cos(season)], axis=-1)


def month_and_hour(time_B3: Float[Array, "B 3"]) -> tuple[Float[Array, "B"], Float[Array, "B"]]:
    """Month (0 to 11) and hour (0 to 24, with its fraction) of dates, float32 (B,) each."""
    year, day = time_B3[:, 1], time_B3[:, 2]
    leap = (year % 4 == 0) & ((year % 100 != 0) | (year % 400 == 0))
    starts = jnp.array(_MONTH_STARTS, jnp.float32)
    starts += leap[:, None] * (starts > _MONTH_STARTS[0])  # February begins on the same day in every year
    return (day[:, None] >= starts).sum(axis=1).astype(jnp.float32), 24.0 * (day % 1.0)


def satmae_time(time_B3: Float[Array, "B 3"], dim: int) -> Float[Array, "B {3*dim}"]:
    """Codes of year, month and hour, one after the other.

    Args:
      time_B3: Known, year, day of year; float32.
      dim: Width of each code, even; 128 at SatMAE's width of 1024.

    Returns:
      float32 (B, 3 dim).

    Source: SatMAE (arXiv 2207.08051), temporal encoding: e(year - 2002), e(month - 1), e(hour).
    """
    month, hour = month_and_hour(time_B3)
    return jnp.concatenate([sincos(x, dim) for x in (time_B3[:, 1] - _SATMAE_EPOCH_YEAR, month, jnp.floor(hour))], axis=-1)


def prithvi_time(time_B3: Float[Array, "B 3"], width: int) -> Float[Array, "B {width}"]:
    """Codes of the year and of the day of year, half of the width each, float32 (B, D).

    Source: Prithvi-EO-2.0 (arXiv 2412.02732), temporal encoding.
    """
    return jnp.concatenate([sincos(time_B3[:, 1], width // 2), sincos(time_B3[:, 2], width // 2)], axis=-1)
