"""Quality indices of images in blocks: UQI of each band, and Q2n of all bands together as hypercomplex numbers.

Takes torch tensors (B, C, H, W), computes in float64 and returns one figure an image.

Legend: B images, C bands, H W pixels, J blocks of an image, P pixels of a block, N components of a hypercomplex number.
"""

import torch
from torch import Tensor

from rsfm_jax.errors import InputError
from rsfm_jax.evaluate.figures.checks import must_be_positive, same_images

BLOCK_PX = 32


def uqi(predicted: Tensor, target: Tensor, block_px: int = BLOCK_PX) -> Tensor:
    """Universal image quality index Q of each band and block, averaged.

    torchmetrics' weighs a Gaussian window and adds 1e-7 to a denominator that can be as small for reflectance; this is the index as
    published, on distinct blocks as pansharpening reports it. A factor that is 0 / 0 (equal constants) is 1.

    Args:
      predicted: Images (B, C, H, W); sides are multiples of ``block_px``.
      target: References of the same shape.
      block_px: Side of a block in pixels.

    Returns:
      (B,), -1 to 1.

    Raises:
      InputError: As `psnr`, or the sides are no multiples of a block.

    Source: Wang, Bovik 2002, "A Universal Image Quality Index", equation 2.
    """
    predicted, target = same_images(predicted, target)
    x, y = (_blocks(side, block_px) for side in (target, predicted))  # (B, J, P, C)
    means = x.mean(dim=2), y.mean(dim=2)
    x, y = x - means[0][:, :, None], y - means[1][:, :, None]
    spread = (x**2 + y**2).mean(dim=2)
    level = means[0] ** 2 + means[1] ** 2
    return (_share(2 * (x * y).mean(dim=2), spread, level) * _share(2 * means[0] * means[1], level, level)).mean(dim=(1, 2))


def q2n(predicted: Tensor, target: Tensor, block_px: int = BLOCK_PX, normalise: bool = False) -> Tensor:
    """Q2n, the quality index of pixels as hypercomplex numbers, averaged over blocks. No library at hand has it.

    The bands of a pixel are the parts of a number of N = 2^n >= C parts, the rest zero. In a block
    Q2n = 2 |cov| / (var1 + var2) * 2 |mean1| |mean2| / (|mean1|^2 + |mean2|^2), where cov is the mean of (z1 - mean1) conj(z2 - mean2)
    under the Cayley-Dickson product. With one band it is |Q|, with four Q4.

    Args:
      predicted: Images (B, C, H, W); sides are multiples of ``block_px``.
      target: References of the same shape.
      block_px: Side of a block in pixels, 32 by custom.
      normalise: Whether to first bring each band of both blocks to where the reference's has mean 1 and standard deviation 1, as the
        toolbox of Vivone et al. does; tables made with it need True to compare. Bands where the reference is constant are only shifted.

    Returns:
      (B,), 0 to 1 up to 8 bands. Symmetric in its arguments unless normalised. The algebra has zero divisors from 16 parts on.

    Raises:
      InputError: As `psnr`, or the sides are no multiples of a block.

    Source: Garzelli, Nencini 2009, "Hypercomplex Quality Assessment of Multi/Hyperspectral Images", section II; Alparone et al. 2004, "A
    Global Quality Measurement of Pan-Sharpened Multispectral Imagery" for four bands.
    """
    predicted, target = same_images(predicted, target)
    bands = target.shape[1]
    fill = (0, 2 ** (bands - 1).bit_length() - bands)
    z1, z2 = (torch.nn.functional.pad(_blocks(side, block_px), fill) for side in (target, predicted))  # (B, J, P, N)
    if normalise:
        centre, spread = z1.mean(dim=2, keepdim=True), z1.std(dim=2, keepdim=True)
        spread = torch.where(spread > 1e-12 * centre.abs(), spread, 1.0)
        z1, z2 = ((z - centre) / spread + 1 for z in (z1, z2))
    means = z1.mean(dim=2), z2.mean(dim=2)
    z1, z2 = z1 - means[0][:, :, None], z2 - means[1][:, :, None]
    covariance = hypercomplex_product(z1, _conjugate(z2)).mean(dim=2).norm(dim=-1)
    spread = (z1**2 + z2**2).sum(dim=-1).mean(dim=2)
    lengths = means[0].norm(dim=-1), means[1].norm(dim=-1)
    level = lengths[0] ** 2 + lengths[1] ** 2
    return (_share(2 * covariance, spread, level) * _share(2 * lengths[0] * lengths[1], level, level)).mean(dim=1)


def hypercomplex_product(x: Tensor, y: Tensor) -> Tensor:
    """Cayley-Dickson product: (a, b)(c, d) = (a c - conj(d) b, d a + b conj(c)).

    Args:
      x: Numbers (..., N), N a power of two: real, complex, quaternions (1, i, j, k), octonions and so on.
      y: Numbers of the same N.

    Returns:
      (..., N).
    """
    if x.shape[-1] == 1:
        return x * y
    (a, b), (c, d) = x.chunk(2, dim=-1), y.chunk(2, dim=-1)
    first = hypercomplex_product(a, c) - hypercomplex_product(_conjugate(d), b)
    return torch.cat([first, hypercomplex_product(d, a) + hypercomplex_product(b, _conjugate(c))], dim=-1)


def _conjugate(x: Tensor) -> Tensor:
    return torch.cat([x[..., :1], -x[..., 1:]], dim=-1)


def _share(part: Tensor, whole: Tensor, level: Tensor) -> Tensor:
    """``part`` / ``whole``, and 1 where ``whole`` is nothing beside rounding of values whose squares are ``level``."""
    nothing = whole <= 1e-24 * level
    return torch.where(nothing, 1.0, part / torch.where(nothing, 1.0, whole))


def _blocks(images: Tensor, block_px: int) -> Tensor:
    """(B, C, H, W) to distinct blocks (B, J, P, C)."""
    must_be_positive("block_px", block_px)
    batch, bands, height, width = images.shape
    if height % block_px or width % block_px:
        raise InputError(f"images are {height} x {width} pixels; expected multiples of block_px = {block_px} (cut them, or choose another)")
    parts = images.reshape(batch, bands, height // block_px, block_px, width // block_px, block_px)
    return parts.permute(0, 2, 4, 3, 5, 1).reshape(batch, -1, block_px**2, bands)
