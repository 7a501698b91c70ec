"""Images by themselves as the encoder's input: on their own centre, place unknown.

Legend: B images, H W pixels, C bands.
"""

import numpy as np

from rsfm_jax.models.encodings import Batch

UNKNOWN_DATE = (0.0, 0.0, 0.0)


def one_image_batch(members: list[tuple[np.ndarray, np.ndarray]], gsd_m: float, time: tuple[float, float, float] = UNKNOWN_DATE) -> Batch:
    """A batch of sets that are one image each.

    Args:
      members: For each token slot of the image its normalised pixels, float32 (B, H, W, C), and valid, bool of that shape.
      gsd_m: Metres per pixel.
      time: Known, year, day of year from 0.

    Returns:
      ``members`` and ``place``, numpy, as `rsfm_jax.models.encoder.Encoder` takes them.
    """
    B, height, width, _ = members[0][0].shape
    grid_m = np.tile(np.array([-width / 2 * gsd_m, height / 2 * gsd_m, gsd_m, gsd_m], np.float32), (B, 1))
    shared = {"grid_m": grid_m, "time": np.tile(np.array(time, np.float32), (B, 1))}
    place = {"geosot": np.zeros((B, 256), np.uint8), "lonlat_deg": np.zeros((B, 3), np.float32)}
    return {"members": [{"pixels": pixels, "valid": valid} | shared for pixels, valid in members], "place": place}
