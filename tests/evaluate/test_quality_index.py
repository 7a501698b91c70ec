"""UQI and Q2n against complex numbers, quaternions by Hamilton's rules, and figures of the toolbox in use."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="no CPU wheel of PyTorch for this Python")
library = pytest.importorskip("torchmetrics.functional.image", reason="the extra that evaluates is not installed")

from rsfm_jax.errors import InputError  # noqa: E402
from rsfm_jax.evaluate.figures.quality_index import hypercomplex_product, q2n, uqi  # noqa: E402


def pair(bands: int, side: int = 8, noise: float = 0.2) -> tuple[torch.Tensor, torch.Tensor]:
    """Predicted and true images, (2, bands, side, side)."""
    random = torch.Generator().manual_seed(bands)
    target = 0.2 + torch.rand(2, bands, side, side, generator=random, dtype=torch.float64)
    return 0.9 * target + noise * torch.randn(target.shape, generator=random, dtype=torch.float64), target


def blocks(image: torch.Tensor, px: int) -> list[np.ndarray]:
    """(C, H, W) as blocks (px * px, C)."""
    values = image.numpy()
    rows, columns = values.shape[1] // px, values.shape[2] // px
    return [values[:, px * i : px * (i + 1), px * j : px * (j + 1)].reshape(len(values), -1).T for i in range(rows) for j in range(columns)]


def q_of_two_bands(x: np.ndarray, y: np.ndarray) -> float:
    """Q of one block as complex numbers."""
    z1, z2 = x[:, 0] + 1j * x[:, 1], y[:, 0] + 1j * y[:, 1]
    covariance = np.mean(z1 * np.conj(z2)) - z1.mean() * np.conj(z2.mean())
    variances = np.mean(abs(z1) ** 2) - abs(z1.mean()) ** 2, np.mean(abs(z2) ** 2) - abs(z2.mean()) ** 2
    means = abs(z1.mean()), abs(z2.mean())
    return 2 * abs(covariance) / sum(variances) * 2 * means[0] * means[1] / (means[0] ** 2 + means[1] ** 2)


def hamilton(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    """Products of quaternions (N, 4), written out."""
    (a, b, c, d), (e, f, g, h) = p.T, q.T
    parts = (a * e - b * f - c * g - d * h, a * f + b * e + c * h - d * g, a * g - b * h + c * e + d * f, a * h + b * g - c * f + d * e)
    return np.stack(parts, axis=1)


def q_of_four_bands(x: np.ndarray, y: np.ndarray) -> float:
    """Q4 of one block as quaternions."""
    bar = np.array([1, -1, -1, -1])
    means = x.mean(axis=0), y.mean(axis=0)
    covariance = hamilton(x, y * bar).mean(axis=0) - hamilton(means[0][None], (means[1] * bar)[None])[0]
    spread = x.var(axis=0).sum() + y.var(axis=0).sum()
    lengths = [np.linalg.norm(mean) for mean in means]
    return 2 * np.linalg.norm(covariance) / spread * 2 * lengths[0] * lengths[1] / (lengths[0] ** 2 + lengths[1] ** 2)


def q_of_one_band(x: np.ndarray, y: np.ndarray) -> float:
    """Wang and Bovik's Q of one block of one band."""
    (mx, my), ((vx, cxy), (_, vy)) = (x.mean(), y.mean()), np.cov(x[:, 0], y[:, 0])
    return 4 * cxy * mx * my / ((vx + vy) * (mx**2 + my**2))


@pytest.mark.parametrize(("bands", "by_hand"), [(1, q_of_one_band), (2, q_of_two_bands), (4, q_of_four_bands)])
def test_q2n_by_hand(bands, by_hand):
    predicted, target = pair(bands)
    expected = [
        np.mean([by_hand(x, y) for x, y in zip(blocks(t, 4), blocks(p, 4), strict=True)]) for p, t in zip(predicted, target, strict=True)
    ]
    np.testing.assert_allclose(q2n(predicted, target, block_px=4).numpy(), np.abs(expected), rtol=1e-10)


def test_uqi_is_signed_and_by_band():
    predicted, target = pair(3)
    bands = [
        np.mean([q_of_one_band(x, y) for x, y in zip(blocks(target[1, c : c + 1], 4), blocks(predicted[1, c : c + 1], 4), strict=True)])
        for c in range(3)
    ]
    assert float(uqi(predicted, target, block_px=4)[1]) == pytest.approx(np.mean(bands))
    upside_down = 2 * target.mean(dim=(2, 3), keepdim=True) - target
    signed = uqi(upside_down, target, block_px=8)
    assert float(signed.max()) == pytest.approx(-1)
    single = pair(1)
    np.testing.assert_allclose(q2n(*single, block_px=8), uqi(*single, block_px=8).abs(), rtol=1e-12)
    dark = 0.01 * pair(3, side=32)[1].float()
    assert float(library.universal_image_quality_index(dark, dark)) < 0.99  # a constant in the denominator, which grows with small units
    np.testing.assert_allclose(uqi(dark, dark, block_px=8), 1, rtol=1e-12)


@pytest.mark.parametrize("normalise", [False, True])
@pytest.mark.parametrize("bands", [1, 2, 3, 4, 6, 8, 13])
def test_properties_of_q2n(bands, normalise):
    predicted, target = pair(bands)
    q = q2n(predicted, target, 4, normalise)
    np.testing.assert_allclose(q2n(target, target, 4, normalise), 1, rtol=1e-12)
    np.testing.assert_allclose(q2n(3.7 * predicted, 3.7 * target, 4, normalise), q, rtol=1e-10)  # the unit is no matter
    assert ((q > 0.2) & (q < 1)).all()
    worse = q2n(*pair(bands, noise=0.6), 4, normalise)
    assert (worse < q).all()
    if not normalise:
        np.testing.assert_allclose(q2n(target, predicted, 4), q, rtol=1e-10)


def waves(bands: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Smooth images without random numbers, (1, bands, 64, 32)."""
    row, column = np.mgrid[:64, :32]
    target = np.stack([2 + b + np.sin(0.3 * (b + 1) * row) * np.cos(0.2 * column + b) for b in range(bands)])
    predicted = np.stack([0.8 * band + 0.3 * np.cos(0.7 * row * (b + 1) + column) for b, band in enumerate(target)])
    return torch.from_numpy(predicted)[None], torch.from_numpy(target)[None]


@pytest.mark.parametrize(("bands", "figure"), [(1, 0.338866756115), (3, 0.778563926646), (4, 0.778494456154), (8, 0.806489852314)])
def test_normalised_q2n_equals_the_toolbox(bands, figure):
    assert float(q2n(*waves(bands), normalise=True)) == pytest.approx(figure, rel=1e-10)


def test_constant_blocks():
    flat = torch.full((1, 3, 4, 4), 0.1, dtype=torch.float64)
    assert float(q2n(flat, flat, 4)) == 1
    assert float(q2n(2 * flat, flat, 4)) == pytest.approx(2 * 2 / (1 + 4))
    assert float(uqi(2 * flat, flat, 4)) == pytest.approx(2 * 2 / (1 + 4))
    assert float(q2n(0 * flat, 0 * flat, 4)) == 1
    rough = torch.rand(1, 3, 4, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert float(q2n(rough, flat, 4)) == pytest.approx(0, abs=1e-12)
    shifted = 2 * 2 * np.sqrt(13) / (4 + 13)  # means (1, 1, 1, 1) and (2, 2, 2, 1), the fourth for the part that is no band
    assert float(q2n(flat + 1, flat, 4, normalise=True)) == pytest.approx(shifted)


def test_the_product_is_that_of_hypercomplex_numbers():
    rng = np.random.default_rng(0)
    p, q = rng.normal(size=(2, 20, 4))
    np.testing.assert_allclose(hypercomplex_product(torch.from_numpy(p), torch.from_numpy(q)).numpy(), hamilton(p, q), rtol=1e-12)
    for n in (1, 2, 4, 8, 16):
        x, y = torch.from_numpy(rng.normal(size=(2, 20, n)))
        lengths = hypercomplex_product(x, y).norm(dim=-1) / (x.norm(dim=-1) * y.norm(dim=-1))
        assert torch.allclose(lengths, torch.ones(20, dtype=torch.float64)) == (n < 16)  # Hurwitz: lengths multiply up to octonions
        units = hypercomplex_product(torch.eye(n)[:, None], torch.eye(n)[None])
        i, j = np.mgrid[:n, :n]
        np.testing.assert_array_equal(units.abs().argmax(dim=-1).numpy(), i ^ j)
        np.testing.assert_array_equal(torch.diagonal(units[..., 0]).numpy(), [1] + [-1] * (n - 1))


@pytest.mark.parametrize("index", [q2n, uqi])
def test_sides_must_be_multiples_of_blocks(index):
    with pytest.raises(InputError, match=r"images are 8 x 8 pixels; expected multiples of block_px = 32"):
        index(*pair(2))
    with pytest.raises(InputError, match="block_px is 0"):
        index(*pair(2), block_px=0)
