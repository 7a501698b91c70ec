"""Crops and flips: pixels, validity and grids of all members stay on one ground."""

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image
import pytest

from rsfm_jax.config import AugmentConfig, MaskConfig
from rsfm_jax.layouts import Layout, Slot
from rsfm_jax.objectives.augment import augment, cubic_weights
from rsfm_jax.objectives.masking import sample_masks

PIXELS = (24, 12)
GSD_M = ((10.0, 8.0), (30.0, 24.0))  # along x and y
CENTRES_M = ((0.0, 0.0), (95.0, -70.0))  # the second member reaches further than the first, but not to its left
SLOPES = np.array([0.013, -0.007])


def ground(xy: np.ndarray) -> np.ndarray:
    """A plane over the ground, which the cubic kernel keeps; (..., 2) to (..., 1)."""
    return (xy @ SLOPES)[..., None] + 0.5


def centres(grid_4: np.ndarray, pixels: int) -> np.ndarray:
    """Ground coordinates of pixel centres, (H, W, 2)."""
    left, upper, width, height = grid_4
    steps = np.arange(pixels) + 0.5
    x, y = np.meshgrid(left + steps * width, upper - steps * height)
    return np.stack([x, y], axis=-1)


def planes(count: int) -> dict[str, Any]:
    """Sets of two members that show one plane."""
    members = []
    for pixels, (wide_m, high_m), (x_m, y_m) in zip(PIXELS, GSD_M, CENTRES_M, strict=True):
        grid = np.array([x_m - pixels * wide_m / 2, y_m + pixels * high_m / 2, wide_m, high_m], np.float32)
        image = ground(centres(grid, pixels)).astype(np.float32)
        repeated = [jnp.asarray(np.broadcast_to(x, (count, *x.shape))) for x in (image, np.ones_like(image, bool), grid)]
        members.append(dict(zip(("pixels", "valid", "grid_m"), repeated, strict=True)) | {"time": jnp.zeros((count, 3))})
    return {"members": members, "place": {"lonlat_deg": jnp.ones((count, 3))}}


def augmented(batch: dict[str, Any], seed: int = 0, **knobs: Any) -> dict[str, Any]:
    count = batch["members"][0]["valid"].shape[0]
    keys_B = jax.vmap(lambda i: jax.random.fold_in(jax.random.key(seed), i))(jnp.arange(count))
    return jax.tree.map(np.asarray, augment(AugmentConfig(**knobs), keys_B, batch))


def test_nothing_asked_for_changes_nothing():
    batch = planes(2)
    assert augment(AugmentConfig(), jax.random.split(jax.random.key(0), 2), batch)["members"] is batch["members"]


@pytest.mark.parametrize("box", [(0.0, 24.0), (3.25, 17.5), (0.0, 5.0), (20.5, 24.0)])
def test_weights_are_those_of_pillow(box: tuple[float, float]):
    line = np.random.default_rng(0).normal(size=(1, 24)).astype(np.float32)
    expected = Image.fromarray(line).resize((24, 1), Image.Resampling.BICUBIC, box=(box[0], 0, box[1], 1))
    weights = cubic_weights(24, jnp.float32(box[0]), jnp.float32((box[1] - box[0]) / 24))
    np.testing.assert_allclose(np.asarray(weights) @ line[0], np.asarray(expected)[0], atol=2e-5)
    np.testing.assert_allclose(weights.sum(axis=1), 1.0, atol=1e-6)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**31 - 1), st.sampled_from([0.3, 0.5, 0.9]), st.sampled_from([1.0, 4 / 3]))
def test_a_crop_shows_one_part_of_the_ground_in_every_member(seed: int, min_area: float, aspect: float):
    before, after = planes(1), augmented(planes(1), seed, crop_min_area=min_area, crop_max_aspect=aspect)
    shifts = []
    for pixels, old, new in zip(PIXELS, before["members"], after["members"], strict=True):
        ratio = new["grid_m"][0] / np.asarray(old["grid_m"])[0]
        assert min_area <= ratio[2] * ratio[3] * (1 + 1e-5)
        assert ratio.max() <= 1 + 1e-6
        assert 1 / aspect - 1e-5 <= ratio[2] / ratio[3] <= aspect + 1e-5
        np.testing.assert_allclose(ratio[:2], ratio[2:], rtol=1e-5)
        inside = slice(3, -3)  # the kernel is cut off at the edge of a chip, which a crop may touch
        errors = new["pixels"][0] - ground(centres(new["grid_m"][0], pixels))
        shifts.append(errors[inside, inside].mean())
        np.testing.assert_allclose(errors[inside, inside], shifts[-1], atol=1e-4)
        assert new["valid"].all()
    assert shifts[0] == pytest.approx(shifts[1], abs=1e-4)  # one centre for all members


def test_crops_differ_and_reach_the_least_area():
    grids = augmented(planes(400), crop_min_area=0.2)["members"][0]["grid_m"]
    areas = grids[:, 2] * grids[:, 3] / np.prod(GSD_M[0])
    assert 0.2 <= areas.min() < 0.22
    assert areas.max() > 0.98
    assert areas.mean() == pytest.approx(0.6, abs=0.04)


MATRICES = [m * np.array(signs) for m in (np.eye(2), np.eye(2)[::-1]) for signs in ((1, 1), (1, -1), (-1, 1), (-1, -1))]


def _turns_seen(batch: dict[str, Any]) -> set[tuple[float, ...]]:
    """For each example the matrix that brings the new ground coordinates to the old, up to the crop's centre; it must be one for all
    members, and so must the centre.
    """
    seen = set()
    for b in range(len(batch["members"][0]["pixels"])):
        fits = []
        for matrix in MATRICES:
            parts = zip(PIXELS, batch["members"], strict=True)
            errors = [m["pixels"][b] - ground(centres(m["grid_m"][b], pixels) @ matrix) for pixels, m in parts]
            inside = np.concatenate([error[3:-3, 3:-3].ravel() for error in errors])
            if np.ptp(inside) < 2e-4:
                fits.append(tuple(matrix.ravel()))
        assert len(fits) == 1
        seen.add(fits[0])
    return seen


@pytest.mark.parametrize("min_area", [1.0, 0.3])
@pytest.mark.parametrize(("flip", "expected"), [("horizontal", 2), ("dihedral", 8)])
def test_flips_mirror_pixels_and_grids_of_all_members_alike(flip: str, expected: int, min_area: float):
    seen = _turns_seen(augmented(planes(64), flip=flip, crop_min_area=min_area))
    assert len(seen) == expected
    if flip == "horizontal":
        assert seen == {(1, 0, 0, 1), (-1, 0, 0, 1)}


def test_a_resampled_pixel_is_valid_where_all_it_is_made_of_is():
    batch = planes(200)
    member = batch["members"][0]
    hole = (slice(None), 10, 12)
    batch["members"][0] = member | {"valid": member["valid"].at[hole].set(False), "pixels": member["pixels"].at[hole].set(jnp.nan)}
    after, whole = augmented(batch, crop_min_area=0.3), augmented(planes(200), crop_min_area=0.3)
    new, reference = after["members"][0], whole["members"][0]
    assert np.isfinite(new["pixels"]).all()
    np.testing.assert_allclose(new["pixels"][new["valid"]], reference["pixels"][new["valid"]], atol=1e-5)
    lost = (~new["valid"]).sum(axis=(1, 2, 3))
    assert (new["pixels"][~new["valid"]] == 0).all()
    assert lost.max() >= 16
    assert 0 < np.median(lost) <= 81
    np.testing.assert_array_equal(after["members"][1]["pixels"], whole["members"][1]["pixels"])


def test_draws_follow_the_example_not_the_batch():
    keys_B, batch = jax.random.split(jax.random.key(3), 4), planes(4)
    knobs = AugmentConfig(crop_min_area=0.2, flip="dihedral")
    together, alone = augment(knobs, keys_B, batch), augment(knobs, keys_B[2:3], jax.tree.map(lambda x: x[2:3], batch))
    for a, b in zip(jax.tree.leaves(jax.tree.map(lambda x: x[2:3], together)), jax.tree.leaves(alone), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)


def test_members_without_common_ground_are_not_cropped():
    batch = planes(3)
    batch["members"][1]["grid_m"] += jnp.array([1000.0, 0, 0, 0])
    after = augmented(batch, crop_min_area=0.1)
    for old, new in zip(batch["members"], after["members"], strict=True):
        np.testing.assert_allclose(new["pixels"], old["pixels"], atol=1e-6)
        np.testing.assert_array_equal(new["grid_m"], old["grid_m"])


def test_masks_follow_the_ground_through_a_crop():
    layout = Layout("two", (Slot("sentinel2_l2a", ("B02",), 10.0, 24, 4), Slot("landsat8_l1", ("B2",), 30.0, 12, 2)))
    before = planes(32)
    after = augmented(before, crop_min_area=0.3)
    keys_B = jax.random.split(jax.random.key(1), 32)
    drawn = []
    for members in (before["members"], jax.tree.map(jnp.asarray, after["members"])):
        grids, times = ([member[name] for member in members] for name in ("grid_m", "time"))
        real = [jnp.ones((32, slot.grid**2), bool) for slot in layout.slots]
        drawn.append(sample_masks(keys_B, layout, MaskConfig(), grids, times, real))
    for a, b in zip(drawn[0].hidden, drawn[1].hidden, strict=True):
        assert (np.asarray(a) == np.asarray(b)).mean() > 0.999  # shares of ground on the edge between two levels may round either way
