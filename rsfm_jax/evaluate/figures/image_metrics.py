"""How near a restored or pansharpened image is to its reference: PSNR, SSIM, SAM, ERGAS; and all figures together.

Every function takes torch tensors (B, C, H, W) of physical values, computes in float64 and returns one figure an image. Nothing is masked:
values that are not finite are refused, so cut images to what was observed before.

Legend: B images, C bands, H W pixels.
"""

from typing import Any

import torch
from torch import Tensor
from torchmetrics.functional.image import (
    error_relative_global_dimensionless_synthesis,
    peak_signal_noise_ratio,
    structural_similarity_index_measure,
)

from rsfm_jax.errors import InputError
from rsfm_jax.evaluate.figures.checks import must_be_positive, same_images
from rsfm_jax.evaluate.figures.quality_index import BLOCK_PX, q2n, uqi

SSIM_WINDOW_PX = 11  # with a standard deviation of 1.5 pixels


def image_figures(
    predicted: Tensor, target: Tensor, data_range: float, gsd_ratio: float | None = None, block_px: int = BLOCK_PX
) -> dict[str, Any]:
    """Means over images of the figures below, as Python numbers.

    Args:
      predicted: Images (B, C, H, W).
      target: References of the same shape.
      data_range: As `psnr` takes it.
      gsd_ratio: As `ergas` takes it; None leaves ERGAS out.
      block_px: As `q2n` takes it.

    Returns:
      `psnr_db` (None if an image equals its reference, where it is infinite), `equal_n`, how many do, `ssim`, `sam_deg`,
      `sam_undefined_pixels`, `q2n`, `uqi`; `ergas` and `gsd_ratio`, None without a ratio; `data_range`, `block_px` and `n`.

    Raises:
      InputError: As the figures raise it.
    """
    psnr_db = psnr(predicted, target, data_range)
    angles_deg, undefined = sam_deg(predicted, target)
    equal = int(torch.isinf(psnr_db).sum())
    return {
        "psnr_db": None if equal else float(psnr_db.mean()),
        "equal_n": equal,
        "ssim": float(ssim(predicted, target, data_range).mean()),
        "sam_deg": float(angles_deg.mean()),
        "sam_undefined_pixels": int(undefined.sum()),
        "q2n": float(q2n(predicted, target, block_px).mean()),
        "uqi": float(uqi(predicted, target, block_px).mean()),
        "ergas": None if gsd_ratio is None else float(ergas(predicted, target, gsd_ratio).mean()),
        "gsd_ratio": gsd_ratio,
        "data_range": data_range,
        "block_px": block_px,
        "n": len(target),
    }


def psnr(predicted: Tensor, target: Tensor, data_range: float) -> Tensor:
    """Peak signal-to-noise ratio in dB of each image, over all its bands together: 10 log10(data_range^2 / mean squared error).

    Args:
      predicted: Images (B, C, H, W).
      target: References of the same shape.
      data_range: Span of possible values, in the values' unit. It moves the figure, so it is given and never read off the image.

    Returns:
      (B,); infinite where an image equals its reference.

    Raises:
      InputError: Shapes differ, a value is not finite, or the range is not positive.
    """
    predicted, target = same_images(predicted, target)
    must_be_positive("data_range", data_range)
    return peak_signal_noise_ratio(predicted, target, data_range=data_range, reduction="none", dim=(1, 2, 3))


def ssim(predicted: Tensor, target: Tensor, data_range: float) -> Tensor:
    """Structural similarity of each image: Gaussian windows of 11 x 11 pixels, K1 = 0.01, K2 = 0.03, mean over windows and bands.

    The map is torchmetrics'; its own mean also takes windows that reach over the border into a reflection, this one those inside the image.

    Args:
      predicted: Images (B, C, H, W), at least 11 pixels a side.
      target: References of the same shape.
      data_range: As `psnr` takes it.

    Returns:
      (B,), at most 1.

    Raises:
      InputError: As `psnr`, or the images are smaller than a window.

    Source: Wang et al. 2004, "Image Quality Assessment: From Error Visibility to Structural Similarity", section III.B.
    """
    predicted, target = same_images(predicted, target)
    must_be_positive("data_range", data_range)
    if min(target.shape[2:]) < SSIM_WINDOW_PX:
        raise InputError(f"images are {target.shape[2]} x {target.shape[3]} pixels; SSIM needs {SSIM_WINDOW_PX} a side")
    maps = structural_similarity_index_measure(
        predicted, target, sigma=1.5, data_range=data_range, reduction="none", return_full_image=True
    )[1]
    border = SSIM_WINDOW_PX // 2
    height, width = target.shape[2:]
    return maps[..., border : height - border, border : width - border].mean(dim=(1, 2, 3))


def sam_deg(predicted: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Spectral angle between the spectra of each pixel, in degrees.

    torchmetrics' takes the arc cosine, which cannot tell angles below 1e-6 degrees from rounding (0.03 in float32), and gives NaN for a
    spectrum of zeros; here the angle is 2 atan2(|u - v|, |u + v|) of unit vectors (Kahan), exact near 0.

    Args:
      predicted: Images (B, C, H, W).
      target: References of the same shape.

    Returns:
      Mean angle (B,), 0 to 180, over the pixels where it is defined, and how many pixels, int64 (B,), were left out as one of their
      spectra is zero.

    Raises:
      InputError: As `psnr`, there is one band only, or no pixel of an image has an angle.

    Source: Yuhas, Goetz, Boardman 1992, "Discrimination among semi-arid landscape endmembers using the Spectral Angle Mapper algorithm".
    """
    predicted, target = same_images(predicted, target)
    if target.shape[1] < 2:
        raise InputError("images have one band; a spectral angle needs at least 2")
    lengths = [side.norm(dim=1, keepdim=True) for side in (predicted, target)]
    defined = ((lengths[0] > 0) & (lengths[1] > 0))[:, 0]
    if not defined.flatten(1).any(dim=1).all():
        raise InputError("an image has no pixel where both spectra are other than zero; its spectral angle is not defined")
    u, v = (side / torch.where(length > 0, length, 1.0) for side, length in zip((predicted, target), lengths, strict=True))
    angles = 2 * torch.atan2((u - v).norm(dim=1), (u + v).norm(dim=1)) * defined
    pixels = defined.sum(dim=(1, 2))
    return torch.rad2deg(angles.sum(dim=(1, 2)) / pixels), defined[0].numel() - pixels


def ergas(predicted: Tensor, target: Tensor, gsd_ratio: float) -> Tensor:
    """Relative global error of synthesis, in percent: 100 / gsd_ratio * sqrt(mean over bands of (RMSE / mean of the reference)^2).

    Args:
      predicted: Images (B, C, H, W).
      target: References of the same shape.
      gsd_ratio: GSD of the low-resolution bands over the GSD of the sharp band, such as 4 for 40 m to 10 m.

    Returns:
      (B,), 0 for equal images.

    Raises:
      InputError: As `psnr`, the ratio is not positive, or a band's mean is zero.

    Source: Wald 2000, "Quality of high resolution synthesised images: Is there a simple criterion?".
    """
    predicted, target = same_images(predicted, target)
    must_be_positive("gsd_ratio", gsd_ratio)
    empty = (target.mean(dim=(2, 3)) == 0).any(dim=1)
    if empty.any():
        raise InputError(f"a band of reference {int(empty.nonzero()[0])} has mean 0; ERGAS divides by it")
    return error_relative_global_dimensionless_synthesis(predicted, target, ratio=gsd_ratio, reduction="none")
