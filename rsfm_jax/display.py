"""Images for people: which bands are shown in which colour, how physical values are stretched, what marks a pixel without observation.

Legend: H W pixels, C shown bands (three, or one).
"""

from collections.abc import Sequence

import numpy as np

from rsfm_jax.sensors import get_sensor

INVALID = (0.45, 0.1, 0.35)  # colour of pixels without an observation
PERCENTILES = (2, 98)  # of the observed values: where the stretch begins and ends


def shown_channels(sensor: str, bands: Sequence[str]) -> list[int]:
    """Channels shown as red, green and blue, or one as grey.

    Args:
      sensor: Name of the sensor.
      bands: Names of the image's bands, in channel order.

    Returns:
      Those of the sensor's display bands where the image has all of them; else the last, the middle and the first of three or more; else
      the first.
    """
    display = get_sensor(sensor).display
    if set(display) <= set(bands):
        return [bands.index(name) for name in display]
    return [len(bands) - 1, len(bands) // 2, 0] if len(bands) > 2 else [0]


def stretch_limits(values_HWC: np.ndarray, valid_HW: np.ndarray) -> np.ndarray:
    """Where the stretch of each band begins and ends: `PERCENTILES` of its observed values.

    Args:
      values_HWC: Values of the shown bands, in any unit.
      valid_HW: Bool, pixels that count.

    Returns:
      (2, C), lowest first; zeros where no pixel counts.
    """
    if not valid_HW.any():
        return np.zeros((2, values_HWC.shape[-1]))
    return np.percentile(values_HWC[valid_HW], PERCENTILES, axis=0)


def stretched(values_HWC: np.ndarray, limits: np.ndarray) -> np.ndarray:
    """Values between the limits as colours, those outside at the ends.

    Args:
      values_HWC: Values of the shown bands.
      limits: (2, C), in the same unit.

    Returns:
      Float (H, W, 3) in [0, 1]; one band becomes grey.
    """
    low, high = limits
    colours = np.clip((values_HWC - low) / np.maximum(high - low, 1e-12), 0, 1)
    return np.broadcast_to(colours, (*colours.shape[:2], 3))
