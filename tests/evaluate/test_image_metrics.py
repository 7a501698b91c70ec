"""Figures of restored images equal those by hand; where a library has another definition, the difference is shown."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="no CPU wheel of PyTorch for this Python")
library = pytest.importorskip("torchmetrics.functional.image", reason="the extra that evaluates is not installed")

from scipy.ndimage import correlate1d  # noqa: E402

from rsfm_jax.errors import InputError  # noqa: E402
from rsfm_jax.evaluate.figures.image_metrics import ergas, image_figures, psnr, sam_deg, ssim  # noqa: E402


@pytest.fixture
def pair() -> tuple[torch.Tensor, torch.Tensor]:
    """Predicted and true reflectance, (3, 4, 32, 24)."""
    random = torch.Generator().manual_seed(0)
    target = 0.1 + 0.5 * torch.rand(3, 4, 32, 24, generator=random)
    return target + 0.05 * torch.randn(target.shape, generator=random), target


def test_psnr_by_hand(pair):
    predicted, target = pair
    error = (predicted.double() - target.double()).numpy() ** 2
    expected = 10 * np.log10(0.8**2 / error.reshape(3, -1).mean(axis=1))
    np.testing.assert_allclose(psnr(predicted, target, 0.8).numpy(), expected, rtol=1e-6)
    assert torch.isinf(psnr(target, target, 0.8)).all()


def test_ssim_by_hand(pair):
    predicted, target = (side.double().numpy() for side in pair)
    weights = np.exp(-(np.arange(-5, 6) ** 2) / (2 * 1.5**2))
    weights /= weights.sum()

    def windows(image: np.ndarray) -> np.ndarray:
        return correlate1d(correlate1d(image, weights, axis=2), weights, axis=3)[:, :, 5:-5, 5:-5]

    mean_x, mean_y = windows(predicted), windows(target)
    var_x, var_y = windows(predicted**2) - mean_x**2, windows(target**2) - mean_y**2
    covariance = windows(predicted * target) - mean_x * mean_y
    c1, c2 = (0.01 * 0.8) ** 2, (0.03 * 0.8) ** 2
    maps = (2 * mean_x * mean_y + c1) * (2 * covariance + c2) / ((mean_x**2 + mean_y**2 + c1) * (var_x + var_y + c2))
    np.testing.assert_allclose(ssim(*pair, 0.8).numpy(), maps.mean(axis=(1, 2, 3)), rtol=1e-7)
    np.testing.assert_allclose(ssim(pair[1], pair[1], 0.8).numpy(), 1, rtol=1e-12)


def test_ssim_leaves_out_the_reflected_border(pair):
    theirs = library.structural_similarity_index_measure(*pair, data_range=0.8, reduction="none")
    assert (ssim(*pair, 0.8) - theirs).abs().max() > 1e-4


def test_sam_by_hand_and_by_the_library(pair):
    predicted, target = pair
    degrees, undefined = sam_deg(predicted, target)
    for b in range(3):
        theirs = library.spectral_angle_mapper(predicted[b : b + 1].double(), target[b : b + 1].double())
        assert float(degrees[b]) == pytest.approx(np.rad2deg(float(theirs)), rel=1e-7)
    assert undefined.tolist() == [0, 0, 0]
    right_and_half = torch.tensor([[1.0, 1.0], [0.0, 1.0]]).reshape(1, 2, 1, 2)  # spectra (1, 0) and (1, 1)
    up = torch.tensor([[0.0, 0.0], [2.0, 2.0]]).reshape(1, 2, 1, 2)
    assert float(sam_deg(right_and_half, up)[0]) == pytest.approx((90 + 45) / 2)


def test_sam_is_zero_for_scaled_spectra(pair):
    _, target = pair
    degrees, _ = sam_deg(7.3 * target.double(), target)
    assert float(degrees.max()) < 1e-12
    assert float(sam_deg(7.3 * target, target)[0].max()) < 1e-5  # the product itself is rounded to float32
    assert float(torch.rad2deg(library.spectral_angle_mapper(7.3 * target, target))) > 1e-3  # why ours does not take it
    assert float(sam_deg(-target, target)[0].min()) == pytest.approx(180)


def test_sam_leaves_out_zero_spectra_and_says_so(pair):
    predicted, target = (side.clone() for side in pair)
    predicted[1, :, :2] = 0
    target[1, :, 1:3] = 0
    degrees, undefined = sam_deg(predicted, target)
    assert undefined.tolist() == [0, 3 * 24, 0]
    assert float(degrees[1]) == pytest.approx(float(sam_deg(pair[0][1:2, :, 3:], pair[1][1:2, :, 3:])[0]))
    with pytest.raises(InputError, match="no pixel where both spectra"):
        sam_deg(0 * predicted, target)
    with pytest.raises(InputError, match="at least 2"):
        sam_deg(predicted[:, :1], target[:, :1])


def test_ergas_by_hand(pair):
    predicted, target = (side.double().numpy() for side in pair)
    rmse = np.sqrt(((predicted - target) ** 2).mean(axis=(2, 3)))
    expected = 100 / 4 * np.sqrt(((rmse / target.mean(axis=(2, 3))) ** 2).mean(axis=1))
    np.testing.assert_allclose(ergas(*pair, gsd_ratio=4).numpy(), expected, rtol=1e-10)
    np.testing.assert_allclose(ergas(*pair, gsd_ratio=2).numpy(), 2 * expected, rtol=1e-10)
    assert ergas(pair[1], pair[1], 4).tolist() == [0, 0, 0]
    with pytest.raises(InputError, match="a band of reference 0 has mean 0"):
        ergas(*[0 * side for side in pair], 4)


def test_all_figures_together(pair):
    predicted, target = pair
    found = image_figures(predicted, target, 0.8, gsd_ratio=4, block_px=8)
    assert found["psnr_db"] == pytest.approx(float(psnr(predicted, target, 0.8).mean()))
    assert found["ergas"] == pytest.approx(float(ergas(predicted, target, 4).mean()))
    assert found["sam_deg"] == pytest.approx(float(sam_deg(predicted, target)[0].mean()))
    assert (found["data_range"], found["gsd_ratio"], found["block_px"], found["n"]) == (0.8, 4, 8, 3)
    same = image_figures(target, target, 0.8, block_px=8)
    assert (same["psnr_db"], same["equal_n"], same["ergas"]) == (None, 3, None)
    assert (same["ssim"], same["q2n"], same["uqi"], same["sam_deg"]) == pytest.approx((1, 1, 1, 0))


@pytest.mark.parametrize("figure", [psnr, ssim, ergas], ids=lambda figure: figure.__name__)
def test_bad_images_are_refused(pair, figure):
    predicted, target = pair
    holed = target.clone()
    holed[0, 0, 0, :2] = float("nan")
    with pytest.raises(InputError, match="predicted has 2 values that are not finite"):
        figure(holed, target, 1.0)
    with pytest.raises(InputError, match=r"predicted has shape \(3, 4, 32, 24\) and target \(2, 4, 32, 24\)"):
        figure(predicted, target[:2], 1.0)
    with pytest.raises(InputError, match="expected a positive number"):
        figure(predicted, target, 0.0)
    with pytest.raises(InputError, match="images are 10 x 24 pixels; SSIM needs 11 a side"):
        ssim(predicted[:, :, :10], target[:, :, :10], 1.0)
