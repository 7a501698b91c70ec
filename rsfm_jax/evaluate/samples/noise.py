"""Chips with measurement noise added, as a task states it: what it does to features is found by encoding them again.

Legend: N chips, C bands, H W pixels.
"""

import dataclasses

import numpy as np

from rsfm_jax.errors import InputError, nearest
from rsfm_jax.evaluate.samples.samples import Chips, Samples
from rsfm_jax.evaluate.tasks.task_extras import Noise


def noisy_chips(samples: Samples, noise: Noise, draw: int) -> Chips:
    """The samples' chips with one draw of noise on every observed pixel, independent between pixels and bands.

    Args:
      samples: The samples, which are noisy already: noise is added to what was measured, as a first-order propagation does.
      noise: How much, in the bands' units.
      draw: Number of the draw, from 0.

    Returns:
      Chips that differ in their values only.

    Raises:
      InputError: A band of the chips has no standard deviation, one is of no band, or the column or an entry is not there.
    """
    chips = samples.chips
    known = {name for kind in chips.inputs for name in kind.bands}
    for name in known.symmetric_difference(noise.sd):
        near = nearest(name, known if name in noise.sd else noise.sd)
        raise InputError(f"noise.sd: has {', '.join(noise.sd)} and the chips {', '.join(sorted(known))}; {name!r} is in one only{near}")
    sd = np.array([[noise.sd[name] for name in kind.bands] for kind in chips.inputs], np.float32)[chips.input_of][:, :, None, None]
    size = np.hypot(sd, noise.share * chips.values) * _times(samples, noise)[:, None, None, None]
    drawn = np.random.default_rng((noise.seed, draw)).standard_normal(chips.values.shape, np.float32)
    return dataclasses.replace(chips, values=np.where(chips.valid, chips.values + size * drawn, chips.values).astype(np.float32))


def _times(samples: Samples, noise: Noise) -> np.ndarray:
    """How many times the noise of the bands a chip has, float32 (N,)."""
    times = np.ones(len(samples), np.float32)
    if noise.column is None:
        return times
    column = samples.column(noise.column)
    for entry, factor in noise.times.items():
        here = column == entry
        if not here.any():
            raise InputError(
                f"noise.times: no sample has {entry!r} in column {noise.column!r}; there are {np.unique(column)[:10].tolist()}"
            )
        times[here] = factor
    return times
