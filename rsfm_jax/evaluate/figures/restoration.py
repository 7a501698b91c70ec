"""Figures of restored images against the truth, over what was observed: the masked side of `image_metrics`.

PSNR, SAM, ERGAS and RMSE are of pixels, so each chip counts the pixels where its truth was observed in all bands. SSIM and Q2n are of
windows and blocks, so chips with any other pixel are left out of them, and counted. All are means over chips.

Legend: N chips, C bands, H W pixels, M pixels of a chip that count.
"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rsfm_jax.errors import InputError
from rsfm_jax.evaluate.figures.image_metrics import ergas, psnr, sam_deg, ssim
from rsfm_jax.evaluate.figures.quality_index import q2n

Pair = tuple[Tensor, Tensor]  # predictions and truths


def restoration_figures(
    predicted: np.ndarray, target: np.ndarray, valid: np.ndarray, gap: np.ndarray, data_range: float, gsd_ratio: float, block_px: int
) -> dict[str, Any]:
    """Figures of a test side.

    Args:
      predicted: Images (N, C, H, W), physical values.
      target: The truth, of that shape.
      valid: Where it was observed, bool of that shape.
      gap: Pixels to judge apart, bool (N, H, W).
      data_range: As `image_metrics.psnr` takes it.
      gsd_ratio: As `image_metrics.ergas` takes it.
      block_px: As `quality_index.q2n` takes it.

    Returns:
      `psnr`, `ssim`, `sam_deg`, `ergas`, `q2n`, `rmse`, and over the pixels of gaps `psnr_gap`, `sam_deg_gap`, `rmse_gap`; None where
      nothing counts, a chip equals its truth (PSNR), or there is one band (SAM). `chips_n`, `whole_n` and `gap_n` chips have pixels that
      count, count for SSIM and Q2n, and have a gap; `sam_deg_n` and `sam_deg_gap_n` have an angle, `ergas_n` no band of mean 0;
      `pixels_n` and `gap_pixels_n` pixels count.

    Raises:
      InputError: As the figures raise it, or no pixel counts.
    """
    whole = np.asarray(valid.all(axis=1))
    if not whole.any():
        raise InputError(f"none of {len(target)} images has a pixel that was observed in all bands")
    made: dict[str, Any] = {}
    for end, counted in (("", whole), ("_gap", whole & gap)):
        pairs = list(_pixels(predicted, target, counted))
        made[f"psnr{end}"] = _mean(pairs, lambda x, y: psnr(x, y, data_range))
        made[f"rmse{end}"] = _mean(pairs, lambda x, y: ((x.double() - y.double()) ** 2).mean(dim=(1, 2, 3)).sqrt())
        told = _kept(pairs, lambda x, y: ((x != 0).any(dim=1) & (y != 0).any(dim=1)).flatten(1).any(dim=1))
        made[f"sam_deg{end}"] = _mean(told, lambda x, y: sam_deg(x, y)[0]) if target.shape[1] > 1 else None
        made[f"sam_deg{end}_n"] = sum(len(x) for x, _ in told)
        made[f"{end[1:] or 'chips'}_n"] = int(np.any(counted, axis=(1, 2)).sum())
        made[f"{end[1:]}{'_' if end else ''}pixels_n"] = int(counted.sum())
    told = _kept(list(_pixels(predicted, target, whole)), lambda _, y: (y.double().mean(dim=(2, 3)) != 0).all(dim=1))
    made["ergas"] = _mean(told, lambda x, y: ergas(x, y, gsd_ratio))
    made["ergas_n"] = sum(len(x) for x, _ in told)
    seen = np.asarray(np.all(whole, axis=(1, 2)))
    pairs = [(torch.from_numpy(predicted[seen]), torch.from_numpy(target[seen]))] if seen.any() else []
    made["ssim"] = _mean(pairs, lambda x, y: ssim(x, y, data_range))
    made["q2n"] = _mean(pairs, lambda x, y: q2n(x, y, block_px))
    return made | {"whole_n": int(seen.sum())}


def _pixels(predicted: np.ndarray, target: np.ndarray, counted: np.ndarray) -> Iterator[Pair]:
    """The counted pixels of chips as images of one row, (chips, C, 1, M), chips with as many pixels together."""
    counts = counted.sum(axis=(1, 2))
    for count in np.unique(counts[counts > 0]):
        chips = np.flatnonzero(counts == count)
        spectra = (image[chips].transpose(0, 2, 3, 1)[counted[chips]].reshape(len(chips), count, -1) for image in (predicted, target))
        one, other = (torch.from_numpy(part.transpose(0, 2, 1)[:, :, None]) for part in spectra)
        yield one, other


def _kept(pairs: list[Pair], defined: Callable[[Tensor, Tensor], Tensor]) -> list[Pair]:
    """The chips for which a figure is defined, a mask (chips,) of each pair."""
    masks = [defined(*pair) for pair in pairs]
    return [(x[mask], y[mask]) for (x, y), mask in zip(pairs, masks, strict=True) if mask.any()]


def _mean(pairs: list[Pair], figure: Callable[[Tensor, Tensor], Tensor]) -> float | None:
    """Mean of a figure over chips; None for none, and where it is infinite."""
    if not pairs:
        return None
    mean = float(torch.cat([figure(*pair) for pair in pairs]).mean())
    return mean if np.isfinite(mean) else None
