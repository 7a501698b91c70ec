"""What A2-MAE's released masking comes to, built here from its description, beside ours.

As released: the random orders of the three images' patches are joined, the first quarter of the joint order stays visible, and each order
serves as its own inverse where patches are put back.
"""

import numpy as np

from rsfm_jax.config import MaskConfig
from tests.objectives.drawing import THREE_DATES, draw

IMAGES, PATCHES, VISIBLE = 3, 196, 147


def outcome(orders: np.ndarray, restores: np.ndarray, kept: list[np.ndarray]) -> tuple[list[int], int, int]:
    """What masks come to.

    Args:
      orders: The random order of each image's patches, (3, 196).
      restores: The place in that order at which each patch is looked up, (3, 196).
      kept: The visible patches of each image.

    Returns:
      Visible patches of each image, how many of them are scored, and how many come back to where they were.
    """
    scored = returned = 0
    for order, restore, visible in zip(orders, restores, kept, strict=True):
        hidden = np.ones(PATCHES, bool)
        hidden[: len(visible)] = False  # in the order: first the visible ones
        scored += int(hidden[restore][visible].sum())
        returned += int((order[restore] == np.arange(PATCHES))[visible].sum())
    return [len(visible) for visible in kept], scored, returned


def released(seed: int) -> tuple[list[int], int, int]:
    orders = np.stack([np.random.default_rng((seed, image)).permutation(PATCHES) for image in range(IMAGES)])
    joint = [(image, patch) for image in range(IMAGES) for patch in orders[image]]
    kept = [np.array([patch for at, patch in joint[:VISIBLE] if at == image], int) for image in range(IMAGES)]
    return outcome(orders, orders, kept)


def test_released_masks_show_one_image_score_what_is_visible_and_lose_its_place():
    drawn = [released(seed) for seed in range(50)]
    assert all(visible == [147, 0, 0] for visible, _, _ in drawn)
    scored, returned = (np.mean([draw[i] for draw in drawn]) for i in (1, 2))
    assert abs(scored - 147 / 4) < 2  # a quarter of what the model saw counts as hidden
    assert returned < 4  # fixed points of the order, and pairs that change places


def test_ours_show_every_image_score_nothing_visible_and_lose_nothing():
    masks = draw(THREE_DATES, MaskConfig(ratio=0.75), examples=64)
    for b in range(64):
        restores = np.stack([restore[b] for restore in masks.ids_restore])
        kept = [keep[b] for keep in masks.ids_keep]
        assert outcome(np.argsort(restores, axis=1), restores, kept) == ([49, 49, 49], 0, 147)
        for keep, hidden in zip(kept, masks.hidden, strict=True):
            assert not hidden[b][keep].any()
