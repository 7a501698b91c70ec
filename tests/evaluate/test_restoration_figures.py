"""Figures over what was observed: those of `image_metrics` on the pixels that count, and nothing else."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="no CPU wheel of PyTorch for this Python")
pytest.importorskip("torchmetrics", reason="the extra that evaluates is not installed")

from rsfm_jax.errors import InputError  # noqa: E402
from rsfm_jax.evaluate.figures.image_metrics import image_figures  # noqa: E402
from rsfm_jax.evaluate.figures.restoration import restoration_figures  # noqa: E402


@pytest.fixture
def images():
    rng = np.random.default_rng(0)
    target = rng.uniform(0.1, 0.6, (5, 3, 16, 16)).astype(np.float32)
    return target + rng.normal(0, 0.05, target.shape).astype(np.float32), target


def test_whole_images(images):
    predicted, target = images
    valid, gap = np.ones_like(target, bool), np.zeros((5, 16, 16), bool)
    made = restoration_figures(predicted, target, valid, gap, 0.8, 2.0, 8)
    theirs = image_figures(torch.from_numpy(predicted), torch.from_numpy(target), 0.8, 2.0, 8)
    for ours, other in (("psnr", "psnr_db"), ("ssim", "ssim"), ("sam_deg", "sam_deg"), ("ergas", "ergas"), ("q2n", "q2n")):
        assert made[ours] == pytest.approx(theirs[other]), ours
    assert made["rmse"] == pytest.approx(np.sqrt(((predicted - target) ** 2).mean(axis=(1, 2, 3))).mean())
    assert (made["chips_n"], made["whole_n"], made["gap_n"], made["pixels_n"]) == (5, 5, 0, 5 * 256)
    assert made["psnr_gap"] is made["sam_deg_gap"] is made["rmse_gap"] is None


def test_only_what_was_observed_counts(images):
    predicted, target = images
    valid, gap = np.ones_like(target, bool), np.zeros((5, 16, 16), bool)
    valid[0, 1, :4] = False  # one band of some pixels
    valid[1] = False
    gap[0, :6], gap[2, 3:5, 3:5] = True, True
    wrong = np.where(valid.all(axis=1, keepdims=True), predicted, 9e9).astype(np.float32)
    made = restoration_figures(wrong, target, valid, gap, 0.8, 2.0, 8)
    error = (predicted.astype(np.float64) - target) ** 2
    by_chip = [error[0, :, 4:].mean(), *error[2:].mean(axis=(1, 2, 3))]
    assert made["psnr"] == pytest.approx(np.mean(10 * np.log10(0.64 / np.array(by_chip))))
    in_gaps = np.array([error[0, :, 4:6].mean(), error[2, :, 3:5, 3:5].mean()])
    assert made["psnr_gap"] == pytest.approx(np.mean(10 * np.log10(0.64 / in_gaps)))
    assert made["rmse_gap"] == pytest.approx(np.sqrt(in_gaps).mean())
    u, v = (image[[0, 2]].astype(np.float64) for image in (predicted, target))
    cosines = (u * v).sum(axis=1) / np.linalg.norm(u, axis=1) / np.linalg.norm(v, axis=1)
    angles = np.degrees(np.arccos(cosines))
    assert made["sam_deg_gap"] == pytest.approx((angles[0, 4:6].mean() + angles[1, 3:5, 3:5].mean()) / 2, rel=1e-5)
    whole = image_figures(torch.from_numpy(predicted[2:]), torch.from_numpy(target[2:]), 0.8, 2.0, 8)
    assert (made["ssim"], made["q2n"]) == (pytest.approx(whole["ssim"]), pytest.approx(whole["q2n"]))
    assert (made["chips_n"], made["whole_n"], made["gap_n"], made["gap_pixels_n"]) == (4, 3, 2, 32 + 4)


def test_what_is_not_defined(images):
    predicted, target = images
    valid, gap = np.ones_like(target, bool), np.zeros((5, 16, 16), bool)
    one = restoration_figures(predicted[:, :1], target[:, :1], valid[:, :1], gap, 1.0, 1.0, 8)
    assert one["sam_deg"] is None
    assert restoration_figures(target, target, valid, gap, 1.0, 1.0, 8)["psnr"] is None
    with pytest.raises(InputError, match="none of 5 images has a pixel that was observed in all bands"):
        restoration_figures(predicted, target, ~valid, gap, 1.0, 1.0, 8)


def test_a_chip_without_an_angle_or_with_a_dark_band_is_left_out_and_counted():
    rng = np.random.default_rng(3)
    target = rng.uniform(0.1, 0.5, (3, 2, 16, 16)).astype(np.float32)
    predicted = (target + rng.normal(0, 0.01, target.shape)).astype(np.float32)
    valid, gap = np.ones(target.shape, bool), np.zeros((3, 16, 16), bool)
    gap[:, :2, :2] = True
    two = restoration_figures(predicted[1:], target[1:], valid[1:], gap[1:], 1.0, 2.0, 8)
    target[0, 1] = 0
    target[0, :, :2, :2] = 0
    three = restoration_figures(predicted, target, valid, gap, 1.0, 2.0, 8)
    assert (three["ergas_n"], three["sam_deg_n"], three["sam_deg_gap_n"], three["chips_n"]) == (2, 3, 2, 3)
    assert three["ergas"] == pytest.approx(two["ergas"])
    assert three["sam_deg_gap"] == pytest.approx(two["sam_deg_gap"])
