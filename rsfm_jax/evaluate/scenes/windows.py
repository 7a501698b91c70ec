"""Which windows cover a raster, and how much each counts where they overlap.

All windows are squares of one size on one grid of patches, whose first patch lies at the raster's upper left corner; nothing is resampled.
Where the last window of a row would reach beyond the grid it is shifted inwards. What sticks out all the same (a raster smaller than a
window, or no multiple of the patch) is padding that its reader marks as not valid.

Legend: H W pixels.
"""

import dataclasses
import math

import numpy as np

from rsfm_jax.errors import InputError


@dataclasses.dataclass(frozen=True)
class WindowPlan:
    """Windows over a raster, row of windows by row of windows.

    Attributes:
      height: The raster's rows, pixels.
      width: The raster's columns, pixels.
      patch: Patch side, pixels.
      side: Window side, pixels; a multiple of the patch.
      overlap: Pixels that neighbouring windows share, at least; a multiple of the patch, less than the side.

    Raises:
      InputError: a size that is not one of these.
    """

    height: int
    width: int
    patch: int
    side: int
    overlap: int

    def __post_init__(self) -> None:
        if min(self.height, self.width, self.patch) < 1:
            raise InputError(f"a raster of {self.height} x {self.width} pixels with patches of {self.patch}: all must be at least 1")
        if self.side < 1 or self.side % self.patch:
            raise InputError(f"window of {self.side} pixels: must be a positive multiple of the patch, {self.patch}")
        if not 0 <= self.overlap < self.side or self.overlap % self.patch:
            raise InputError(
                f"overlap of {self.overlap} pixels: must be a multiple of the patch, {self.patch}, not negative "
                f"and less than the window, {self.side}"
            )

    @property
    def padded_height(self) -> int:
        """Rows that the windows cover, pixels."""
        return max(math.ceil(self.height / self.patch) * self.patch, self.side)

    @property
    def padded_width(self) -> int:
        """Columns that the windows cover, pixels."""
        return max(math.ceil(self.width / self.patch) * self.patch, self.side)

    @property
    def row_starts(self) -> tuple[int, ...]:
        """First pixel row of each row of windows."""
        return self._starts(self.padded_height)

    @property
    def column_starts(self) -> tuple[int, ...]:
        """First pixel column of each window of a row."""
        return self._starts(self.padded_width)

    def _starts(self, length: int) -> tuple[int, ...]:
        last = length - self.side
        return (*range(0, last, self.side - self.overlap), last)

    def finished_after(self, window_row: int) -> int:
        """How many pixel rows, from the top, no later row of windows covers once row number ``window_row`` is done."""
        later = self.row_starts[window_row + 1 :]
        return later[0] if later else self.padded_height


def blend_weights(side: int, overlap: int) -> np.ndarray:
    """Weights of a window's cells in the blend ``sum(w * f) / sum(w)``.

    Separable: along each axis a squared sine rises over the overlap, is 1 between, and falls as it rose. Neighbours at the regular step
    sum to 1 where they overlap by up to half; a window shifted inwards overlaps by more, so the division by the sum stays needed.

    Args:
      side: Cells along one side.
      overlap: Cells that neighbours share.

    Returns:
      float32 (side, side), all greater than 0.
    """
    rise = np.ones(side) if overlap == 0 else np.sin(np.pi / 2 * np.minimum((np.arange(side) + 0.5) / overlap, 1.0)) ** 2
    axis = rise * rise[::-1]
    return np.outer(axis, axis).astype(np.float32)
