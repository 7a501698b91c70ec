"""How images are spoilt so that what is restored can be compared with what was: area means, and gaps.

Legend: N chips, C bands, H W pixels.
"""

import numpy as np
from scipy.ndimage import gaussian_filter


def area_mean(values: np.ndarray, valid: np.ndarray, ratio: int) -> tuple[np.ndarray, np.ndarray]:
    """Means over cells of ``ratio`` x ``ratio`` pixels, of what was observed there.

    A sensor's own point spread is wider than a cell; filters matched to it are not applied.

    Args:
      values: Float (N, C, H, W); H and W are multiples of ``ratio``.
      valid: Where they were observed, bool of that shape.
      ratio: Side of a cell.

    Returns:
      Means float32 (N, C, H / ratio, W / ratio), 0 for a cell without an observation, and whether a cell has one.

    Source: Wald, Ranchin, Mangolini 1997, "Fusion of satellite images of different spatial resolutions: assessing the quality of resulting
    images": the synthesis property, tested on images degraded by the ratio of the resolutions.
    """
    n, bands, height, width = values.shape
    cells = (n, bands, height // ratio, ratio, width // ratio, ratio)
    counts = valid.reshape(cells).sum(axis=(3, 5))
    sums = np.where(valid, values, 0.0).astype(np.float64).reshape(cells).sum(axis=(3, 5))
    return (sums / np.maximum(counts, 1)).astype(np.float32), counts > 0


def draw_gaps(side_px: int, share: float, blob_px: float, seed: tuple[int, ...]) -> np.ndarray:
    """Gaps like clouds: where smoothed noise is smallest.

    Args:
      side_px: Of a chip.
      share: Of its pixels, rounded to a whole number of them, at least one missing and one left.
      blob_px: Standard deviation of the Gaussian that smooths the noise.
      seed: Whole numbers that draw it.

    Returns:
      Bool (H, W), True in a gap.
    """
    noise = np.random.default_rng(seed).standard_normal((side_px, side_px))
    smooth = gaussian_filter(noise, blob_px, mode="reflect").reshape(-1)
    count = min(max(round(share * smooth.size), 1), smooth.size - 1)
    gaps = np.zeros(smooth.size, bool)
    gaps[np.argpartition(smooth, count)[:count]] = True
    return gaps.reshape(side_px, side_px)
