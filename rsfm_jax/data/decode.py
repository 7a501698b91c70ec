"""One record to one example: digital numbers to normalised physical values, invalid pixels to zero.

Legend: H W pixels, C bands.
"""

from typing import Any

import numpy as np

from rsfm_jax.data.dataset import Dataset
from rsfm_jax.geo import geosot_bits
from rsfm_jax.layouts import Layout

Member = dict[str, np.ndarray]


class Decoder:
    """Decodes the records of one layout."""

    def __init__(self, dataset: Dataset, layout: Layout) -> None:
        """Prepares the normalisation by the dataset's own statistics.

        Args:
          dataset: The dataset.
          layout: The layout whose records are decoded.
        """
        self._layout = layout
        self._mean_std = [dataset.mean_std(slot) for slot in layout.slots]

    def __call__(self, record: dict[str, Any]) -> dict[str, Any]:
        """Decodes a record.

        Args:
          record: As `rsfm_jax.ingest.builder` wrote it.

        Returns:
          ``members``: for each slot ``pixels`` float32 (H, W, C), normalised and zero where invalid; ``valid`` bool (H, W, C); ``grid_m``
          float32 (4,): left edge, upper edge, pixel width, pixel height; ``time`` float32 (3,): known, year, day of year.
          ``place``: ``geosot`` uint8 (256,), see `rsfm_jax.geo.geosot_bits`; ``lonlat_deg`` float32 (3,): known, longitude, latitude of
          the footprint's centre.
        """
        corners_deg = record["lonlat_deg"]
        place = {"geosot": geosot_bits(corners_deg), "lonlat_deg": np.array([1.0, *corners_deg.mean(axis=0)], np.float32)}
        return {"members": [self._member(record, i) for i in range(len(self._layout.slots))], "place": place}

    def _member(self, record: dict[str, Any], i: int) -> Member:
        dn_HWC = record[f"pixels_{i}"]
        mean_C, std_C = self._mean_std[i]
        valid_HWC = np.unpackbits(record[f"valid_{i}"], count=dn_HWC.size).reshape(dn_HWC.shape).astype(bool)
        gain_C = record[f"scale_{i}"] / std_C
        shift_C = (record[f"offset_{i}"] - mean_C) / std_C
        pixels_HWC = dn_HWC * gain_C.astype(np.float32) + shift_C.astype(np.float32)
        return {
            "pixels": np.where(valid_HWC, pixels_HWC, 0).astype(np.float32),
            "valid": valid_HWC,
            "grid_m": record[f"grid_m_{i}"].astype(np.float32),
            "time": record[f"time_{i}"].astype(np.float32),
        }
