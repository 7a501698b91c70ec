"""Which image sets say too little to be learned from, and why.

Legend: H W pixels, C bands.
"""

from collections.abc import Mapping
from typing import Any

from rsfm_jax.config import CurateConfig
from rsfm_jax.curate.descriptors import Member
from rsfm_jax.layouts import Layout, Slot
from rsfm_jax.sensors import get_sensor

Statistics = Mapping[str, Mapping[str, Mapping[str, Any]]]


def reject(layout: Layout, members: list[Member], statistics: Statistics, config: CurateConfig) -> str | None:
    """Why an image set is rejected, or None.

    Args:
      layout: Its layout.
      members: Its members.
      statistics: ``{sensor: {band: {std, ...}}}`` of the dataset.
      config: Thresholds.

    Returns:
      The first reason that holds, of the first member that has one.
    """
    for i, (slot, member) in enumerate(zip(layout.slots, members, strict=True)):
        reason = _reason(slot, member, statistics, config)
        if reason:
            return f"member {i} ({slot.sensor}): {reason}"
    return None


def _reason(slot: Slot, member: Member, statistics: Statistics, config: CurateConfig) -> str | None:
    valid = member.valid_HWC
    if valid.mean(axis=(0, 1)).min() < config.min_valid_share:
        return f"a band has less than {config.min_valid_share:g} valid pixels"
    if max(saturated_shares(slot, member)) > config.max_saturated_share:
        return f"more than {config.max_saturated_share:g} of a band is saturated"
    contrast = [
        float(member.physical_HWC[..., c][valid[..., c]].std()) / statistics[slot.sensor][band]["std"] for c, band in enumerate(slot.bands)
    ]
    if max(contrast) <= config.min_contrast:
        return f"no band varies more than {config.min_contrast:g} of the dataset's standard deviation"
    return None


def saturated_shares(slot: Slot, member: Member) -> list[float]:
    """For each band the share of its valid pixels that are as high as they can be.

    That is at or above the upper end of the band's `rsfm_jax.sensors.Band.valid_range`, or the largest number its records can hold.
    """
    shares = []
    for c, name in enumerate(slot.bands):
        high = min(get_sensor(slot.sensor).band(name).valid_range[1], member.highest_C[c])
        shares.append(float((member.physical_HWC[..., c][member.valid_HWC[..., c]] >= high).mean()))
    return shares
