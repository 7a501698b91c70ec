import dataclasses
from typing import Any

import numpy as np
import pytest

from rsfm_jax.config import CurateConfig
from rsfm_jax.curate.descriptors import Member, decode_member
from rsfm_jax.curate.rejections import reject, saturated_shares
from rsfm_jax.data.dataset import Dataset
from rsfm_jax.layouts import Layout, Slot

LAYOUT = Layout("one", (Slot("sentinel2_l2a", ("B03", "B04"), 10.0, pixels=8, patch=4),))
STATISTICS = {"sentinel2_l2a": {band: {"mean": 0.2, "std": 0.1} for band in ("B03", "B04")}}


@pytest.fixture
def member() -> Member:
    values = np.random.default_rng(0).normal(0.2, 0.05, (8, 8, 2))
    return Member(values, np.ones((8, 8, 2), bool), (0.0, 0.0, 0.0), {}, np.array([6.5535, 6.5535]))


def reason(member: Member, **knobs: Any) -> str | None:
    return reject(LAYOUT, [member], STATISTICS, CurateConfig(**knobs))


def test_a_good_chip_is_kept(member: Member):
    assert reason(member) is None


def test_too_few_valid_pixels_in_one_band(member: Member):
    member.valid_HWC[:5, :, 1] = False
    assert reason(member) == "member 0 (sentinel2_l2a): a band has less than 0.5 valid pixels"
    assert reason(member, min_valid_share=0.375) is None


def test_no_texture_in_any_band(member: Member):
    flat = dataclasses.replace(member, physical_HWC=np.full((8, 8, 2), 0.3))
    assert reason(flat) == "member 0 (sentinel2_l2a): no band varies more than 0.01 of the dataset's standard deviation"
    assert reason(flat, min_contrast=0.0) is not None
    flat.physical_HWC[..., 1] += np.linspace(0, 0.01, 8)
    assert reason(flat) is None
    assert reason(flat, min_contrast=0.1) is not None


def test_values_that_are_not_valid_are_no_texture(member: Member):
    member.physical_HWC[:] = 0.3
    member.physical_HWC[0] = 1.0
    member.valid_HWC[0] = False
    assert reason(member) is not None


@pytest.mark.parametrize("top", [6.5535, 2.0])
def test_saturated_by_type_or_by_the_band(member: Member, top: float):
    member.physical_HWC[:2, :, 0] = top
    assert saturated_shares(LAYOUT.slots[0], member) == [0.25, 0.0]
    assert reason(member) == "member 0 (sentinel2_l2a): more than 0.2 of a band is saturated"
    assert reason(member, max_saturated_share=0.25) is None


def test_eight_bits_that_are_full_are_saturated():
    record = {"pixels_0": np.full((4, 4, 3), 255, np.uint8), "valid_0": np.packbits(np.ones(48, bool)), "time_0": np.zeros(3)}
    member = decode_member(record | {"scale_0": np.full(3, 0.1), "offset_0": np.full(3, -3.0)}, 0, {})
    assert saturated_shares(Slot("neon_rgb", ("R", "G", "B"), 0.1, pixels=4, patch=4), member) == [1.0, 1.0, 1.0]


def test_the_member_is_named(tiny_dataset: Dataset):
    layout = tiny_dataset.layouts[1]
    record = dict(tiny_dataset.source(layout, "train")[0])
    record["pixels_2"] = np.full_like(record["pixels_2"], 77)
    members = [decode_member(record, i, {}) for i in range(3)]
    found = reject(layout, members, tiny_dataset.statistics, CurateConfig())
    assert found
    assert found.startswith("member 2 (landsat7_l1): no band varies")
