"""Records to batches: digital numbers to normalised physical values, invalid pixels to zero.

Examples are written straight into the arrays of their batch, one record after the other, a row of pixels and bands at a time: what costs
time here is memory that is touched, not arithmetic.

Legend: B batch, H W pixels, C bands.
"""

from collections.abc import Iterable
from typing import Any

import numpy as np

from rsfm_jax.data.dataset import Dataset
from rsfm_jax.data.memory import Recycler
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
        self._memory = Recycler()

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
        batch = self.batch([record], 1)
        members = [{name: values[0] for name, values in member.items()} for member in batch["members"]]
        return {"members": members, "place": {name: values[0] for name, values in batch["place"].items()}}

    def batch(self, records: Iterable[dict[str, Any]], size: int) -> dict[str, Any]:
        """Decodes records into one batch.

        Args:
          records: As many as ``size``, read one at a time, so that a generator holds one at a time.
          size: Of the batch.

        Returns:
          What a single record gives, with a leading batch dim.
        """
        members = self._empty_members(size)
        corners_deg = np.empty((size, 4, 2))
        for row, record in zip(range(size), records, strict=True):
            corners_deg[row] = record["lonlat_deg"]
            for i in range(len(members)):
                self._fill(record, i, {name: values[row] for name, values in members[i].items()})
        lonlat_deg = np.ones((size, 3), np.float32)
        lonlat_deg[:, 1:] = corners_deg.mean(axis=1)
        return {
            "members": members,
            "place": {"geosot": geosot_bits(corners_deg.reshape(-1, 2)).reshape(size, -1), "lonlat_deg": lonlat_deg},
        }

    def _empty_members(self, size: int) -> list[Member]:
        shapes: list[tuple[tuple[int, ...], Any]] = []
        for slot in self._layout.slots:
            chips = (size, slot.pixels, slot.pixels, len(slot.bands))
            shapes += [(chips, np.float32), (chips, bool), ((size, 4), np.float32), ((size, 3), np.float32)]
        arrays = iter(self._memory.arrays(shapes))
        return [dict(zip(("pixels", "valid", "grid_m", "time"), arrays, strict=False)) for _ in self._layout.slots]

    def _fill(self, record: dict[str, Any], i: int, member: Member) -> None:
        """Writes slot ``i`` of a record into its place in the batch."""
        mean_C, std_C = self._mean_std[i]
        gain_C = (record[f"scale_{i}"] / std_C).astype(np.float32)
        shift_C = ((record[f"offset_{i}"] - mean_C) / std_C).astype(np.float32)
        _multiply_add(record[f"pixels_{i}"], gain_C, shift_C, member["pixels"])
        valid_HWC, packed = member["valid"], record[f"valid_{i}"]
        if (packed[:-1] == 0xFF).all() and np.unpackbits(packed[-1:], count=(valid_HWC.size - 1) % 8 + 1).all():
            valid_HWC[...] = True
        else:
            valid_HWC[...] = np.unpackbits(packed, count=valid_HWC.size).view(bool).reshape(valid_HWC.shape)
            member["pixels"][~valid_HWC] = 0
        member["grid_m"][...] = record[f"grid_m_{i}"]
        member["time"][...] = record[f"time_{i}"]


def _multiply_add(dn_HWC: np.ndarray, gain_C: np.ndarray, shift_C: np.ndarray, out_HWC: np.ndarray) -> None:
    """``out = dn * gain + shift``; a whole row at once, for numpy is slow along dims as short as the bands.

    Numbers of 32 bits and more don't fit into float32: they are worked out in the type that numpy takes for them, and rounded once.
    """
    height, width, bands = dn_HWC.shape
    gain, shift = (np.broadcast_to(values_C, (width, bands)).reshape(-1) for values_C in (gain_C, shift_C))
    dn, out = dn_HWC.reshape(height, width * bands), out_HWC.reshape(height, width * bands)
    if np.result_type(dn, gain) == out.dtype:
        out[...] = dn
        out *= gain
        out += shift
    else:
        out[...] = dn * gain + shift
