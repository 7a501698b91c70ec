"""A scene through an encoder, window by window, blended where windows overlap, in bounded memory.

Held at any time: one batch of windows and a `BlendBand`, as many cells high as one window and as wide as the scene. A row of windows ends
with the cells that no later row covers: they leave as one piece, with the rest of the band beside it for a restart.

Legend: B windows, C bands, D channels, h w pixels of a window, g cells along a window, p pixels along a cell (the patch, or 1).
"""

from collections.abc import Callable, Iterator, Sequence
import dataclasses
import itertools

import numpy as np
import torch

from rsfm_jax.errors import InputError
from rsfm_jax.evaluate.scenes.pieces import Pieces
from rsfm_jax.evaluate.scenes.reading import WindowReader
from rsfm_jax.evaluate.scenes.windows import WindowPlan, blend_weights

Encode = Callable[[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]
"""``encode(values, valid, grid_m, footprint_deg, time)``, see `rsfm_jax.evaluate.scenes.reading.Windows`, to (B, D, g, g)."""


@dataclasses.dataclass(frozen=True)
class Cells:
    """What is blended and kept.

    Attributes:
      pixels: p, side of a cell; divides the plan's patch.
      channels: D, what ``encode`` returns for a cell.
      finish: From blended float32 (D, rows, columns), NaN where nothing was observed, to what is kept, (any, rows, columns).
    """

    pixels: int
    channels: int
    finish: Callable[[np.ndarray], np.ndarray]


class BlendBand:
    """Weighted sums over the rows of cells that the current row of windows covers.

    Attributes:
      sums: float32 (D, rows, columns).
      weights: float32 (rows, columns).
    """

    def __init__(self, channels: int, rows: int, columns: int) -> None:
        self.sums = np.zeros((channels, rows, columns), np.float32)
        self.weights = np.zeros((rows, columns), np.float32)

    def add(self, column: int, values: np.ndarray, weights: np.ndarray) -> None:
        """Adds one window.

        Args:
          column: Its first column of cells.
          values: (D, rows, g); what has no weight may be anything.
          weights: (rows, g).
        """
        place = slice(column, column + weights.shape[1])
        self.sums[:, :, place] += np.where(weights > 0, values, 0) * weights
        self.weights[:, place] += weights

    def take(self, rows: int) -> np.ndarray:
        """Removes the uppermost rows and moves the others up; returns their blend (D, rows, columns), NaN where there was no weight."""
        weights = self.weights[:rows]
        blended = np.divide(self.sums[:, :rows], weights, where=weights > 0, out=np.full_like(self.sums[:, :rows], np.nan))
        kept = self.weights.shape[0] - rows
        for array in (self.sums.swapaxes(0, 1), self.weights):  # rows first
            array[:kept] = array[rows:].copy()
            array[kept:] = 0
        return blended


def stream_scene(reader: WindowReader, plan: WindowPlan, encode: Encode, cells: Cells, pieces: Pieces, batch: int) -> None:
    """Encodes a scene and commits one piece, ``{"values": (any, rows, columns)}``, for each row of windows that is not done yet.

    Windows without a valid pixel are not encoded. A cell without one gets NaN before ``cells.finish``. ``pieces.counts`` gains ``windows``
    and ``empty_windows``.

    Args:
      reader: The scene.
      plan: Its windows.
      encode: The encoder; must treat the windows of a batch apart.
      cells: What is kept.
      pieces: Where it goes; goes on from what is done.
      batch: Windows encoded at a time, at most.

    Raises:
      InputError: the encoder refuses a window's values.
      ValueError: the encoder returns another shape than promised, or values that are not finite for what was observed.
    """
    side, columns = plan.side // cells.pixels, plan.padded_width // cells.pixels
    weights = blend_weights(side, plan.overlap // cells.pixels)
    band, carry = BlendBand(cells.channels, side, columns), pieces.carry()
    if carry:
        band.sums[:, : len(carry["weights"])], band.weights[: len(carry["weights"])] = carry["sums"], carry["weights"]
    counts = {"windows": 0, "empty_windows": 0} | pieces.counts
    for k in range(pieces.done, len(plan.row_starts)):
        row = plan.row_starts[k]
        for starts in batched([(row, column) for column in plan.column_starts], batch):
            filled = 0
            for (_, column), values, real in _encode(reader, plan, encode, cells, starts):
                band.add(column // cells.pixels, values, weights * real)
                filled += 1
            counts["windows"] += len(starts)
            counts["empty_windows"] += len(starts) - filled
        blended = band.take((plan.finished_after(k) - row) // cells.pixels)
        cropped = blended[:, : -(-plan.height // cells.pixels) - row // cells.pixels, : -(-plan.width // cells.pixels)]
        open_rows = (row + plan.side - plan.finished_after(k)) // cells.pixels
        carry = {"sums": band.sums[:, :open_rows], "weights": band.weights[:open_rows]}
        pieces.commit({"values": cells.finish(cropped)}, carry, counts)


def batched(items: Sequence[tuple[int, int]], size: int) -> Iterator[Sequence[tuple[int, int]]]:
    """Slices of at most ``size`` items; raises `InputError` for a size below 1."""
    if size < 1:
        raise InputError(f"batch={size}: must be at least 1")
    return (items[i : i + size] for i in range(0, len(items), size))


def _encode(
    reader: WindowReader, plan: WindowPlan, encode: Encode, cells: Cells, starts: Sequence[tuple[int, int]]
) -> Iterator[tuple[tuple[int, int], np.ndarray, np.ndarray]]:
    """The windows that hold an observation: start, values (D, g, g), and real (g, g) bool."""
    windows, g = reader.read(starts, plan.side), plan.side // cells.pixels
    real = windows.valid.unflatten(3, (g, cells.pixels)).unflatten(2, (g, cells.pixels)).any(5).any(3).any(1)
    chosen = real.any(2).any(1)
    if not chosen.any():
        return
    tensors = (getattr(windows, field.name)[chosen] for field in dataclasses.fields(windows))
    starts, real = list(itertools.compress(starts, chosen.tolist())), real[chosen].numpy()
    where = f"scene {reader.name!r}, windows of {plan.side} pixels at (row, column) {', '.join(map(str, starts))}"
    try:
        with torch.inference_mode():
            values = encode(*tensors).float().cpu().numpy()
    except ValueError as error:
        raise InputError(f"{where}: {error}") from error
    expected = (len(starts), cells.channels, g, g)
    if values.shape != expected:
        raise ValueError(f"{where}: the encoder returned {values.shape}, expected {expected}")
    if not np.isfinite(values.transpose(0, 2, 3, 1)[real]).all():
        raise ValueError(f"{where}: the encoder returned values that are not finite for patches with valid pixels")
    yield from zip(starts, values, real, strict=True)
