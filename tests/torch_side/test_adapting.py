"""Published weights on another grid, with patches of another side and other bands."""

import math
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="no CPU wheel of PyTorch for this Python")

import torch.nn.functional as F  # noqa: E402

from rsfm_jax.errors import InputError  # noqa: E402
from rsfm_jax.torch.adapting import inflate_bands, interpolate_positions, is_sincos, resize_patch  # noqa: E402

WIDTH, PATCH = 32, 4


def patch_weight() -> np.ndarray:
    return 0.2 * torch.randn(WIDTH, 3, PATCH, PATCH, generator=torch.Generator().manual_seed(0)).numpy()


def test_positions_are_interpolated_as_torch_does():
    pos_embed = 0.2 * torch.randn(1, 17, WIDTH, generator=torch.Generator().manual_seed(0))
    image = pos_embed[:, 1:].reshape(1, 4, 4, WIDTH).permute(0, 3, 1, 2)
    for rows, columns in ((3, 7), (8, 8), (2, 2), (1, 4)):
        direct = F.interpolate(image, size=(rows, columns), mode="bicubic", align_corners=False)
        ours = interpolate_positions(pos_embed.numpy(), rows, columns)
        assert ours.shape == (rows * columns, WIDTH)
        np.testing.assert_array_equal(ours, direct[0].flatten(1).T.numpy())
    np.testing.assert_array_equal(interpolate_positions(pos_embed.numpy(), 4, 4), pos_embed[0, 1:].numpy())
    for bad in (pos_embed[:, 1:], pos_embed[0], pos_embed[:, :1]):
        with pytest.raises(InputError, match=r"expected \(1, 1 \+ side \* side, width\)"):
            interpolate_positions(bad.numpy(), 4, 4)
    with pytest.raises(InputError, match="0 x 4 patches is empty"):
        interpolate_positions(pos_embed.numpy(), 0, 4)


def sincos_one_by_one(side: int, width: int) -> np.ndarray:
    """MAE's positions, number by number: sines and cosines of the column, then of the row."""
    quarter = width // 4
    positions = np.zeros((1, 1 + side * side, width), np.float32)
    for row in range(side):
        for column in range(side):
            for i in range(quarter):
                for half, place in enumerate((column, row)):
                    angle = place / 10000 ** (i / quarter)
                    token = positions[0, 1 + row * side + column]
                    token[half * width // 2 + i] = math.sin(angle)
                    token[half * width // 2 + quarter + i] = math.cos(angle)
    return positions


def test_sincos_positions_are_known():
    positions = sincos_one_by_one(5, WIDTH)
    assert is_sincos(positions)
    assert is_sincos(positions + np.float32(5e-5))
    assert is_sincos(np.concatenate([positions[:, :1] + 1, positions[:, 1:]], axis=1))  # the class token's may be anything
    rows_first = np.roll(positions, WIDTH // 2, axis=-1)
    for other in (rows_first, positions + np.float32(2e-4), positions[..., :30], np.zeros_like(positions)):
        assert not is_sincos(other)
    with pytest.raises(InputError, match="position embeddings have shape"):
        is_sincos(positions[:, 1:-1])


def resized(patches: Any, side: int) -> Any:
    return F.interpolate(patches, size=(side, side), mode="bilinear", align_corners=False, antialias=True)


@pytest.mark.parametrize("side", [1, 4, 14, 16])
@pytest.mark.parametrize("patch", [2, 4, 8, 14, 16, 20])
def test_a_resized_patch_embedding_keeps_smooth_patches(side, patch):
    random = torch.Generator().manual_seed(2)
    weight = torch.randn(6, 3, side, side, generator=random)
    place = torch.linspace(-1, 1, side)
    ramps = 3 + 0.5 * torch.randn(20, 3, 1, 1, generator=random) * place + torch.randn(20, 3, 1, 1, generator=random) * place[:, None]
    noise = torch.randn(20, 3, side, side, generator=random)
    new = torch.from_numpy(resize_patch(weight.numpy(), patch))
    assert new.shape == (6, 3, patch, patch)
    for patches in (ramps, noise) if patch >= side else (ramps,):  # a larger patch loses nothing
        was = torch.einsum("bcij,dcij->bd", patches, weight)
        now = torch.einsum("bcij,dcij->bd", resized(patches, patch), new)
        torch.testing.assert_close(now, was, atol=2e-4, rtol=1e-4)


def test_an_equal_side_copies_and_nonsense_is_refused():
    weight = patch_weight()
    same = resize_patch(weight, PATCH)
    np.testing.assert_array_equal(same, weight)
    assert not np.shares_memory(same, weight)
    for bad, side in ((weight, 0), (weight[..., :3], 8), (weight[0], 8)):
        with pytest.raises(InputError, match="can't be resized"):
            resize_patch(bad, side)


ROLES = {
    "grey": [None],
    "none": [None] * 7,
    "one": ["red"],
    "rgb and more": ["blue", "green", "red", None, None],
    "no blue": ["red", "green", None],
    "red and more": ["red", None, None, None],
    "two": ["green", "blue"],
    "red twice": ["red", "red", "green", "blue"],
}


@pytest.mark.parametrize("roles", ROLES.values(), ids=ROLES)
def test_inflated_bands_keep_the_sum(roles):
    weight = patch_weight()
    new = inflate_bands(weight, roles)
    assert new.shape == (WIDTH, len(roles), PATCH, PATCH)
    assert new.dtype == np.float32
    np.testing.assert_allclose(new.sum(axis=1), weight.sum(axis=1), atol=1e-6)


def test_which_kernel_a_band_gets():
    weight = patch_weight()
    red, green, blue = weight.transpose(1, 0, 2, 3)
    mean = weight.mean(axis=1)
    np.testing.assert_array_equal(inflate_bands(weight, ["blue", "red", "green"]), np.stack([blue, red, green], axis=1))
    np.testing.assert_allclose(inflate_bands(weight, [None] * 2), np.stack([1.5 * mean] * 2, axis=1), atol=1e-6)
    more = inflate_bands(weight, ["blue", "green", "red", None])
    np.testing.assert_allclose(more, 0.75 * np.stack([blue, green, red, mean], axis=1), atol=1e-6)
    np.testing.assert_allclose(inflate_bands(weight, ["red", None, "green"]), np.stack([red, blue, green], axis=1), atol=1e-6)
    np.testing.assert_allclose(inflate_bands(weight, ["green"])[:, 0], weight.sum(axis=1), atol=1e-6)
    for roles in (["red", "nir"], []):
        with pytest.raises(InputError, match="expected at least one of 'red', 'green', 'blue' and None"):
            inflate_bands(weight, roles)
    with pytest.raises(InputError, match=r"expected \(D, 3, p, p\)"):
        inflate_bands(weight[:, :2], [None])
