"""Descriptors against loops over single pixels, and what must not move them."""

from collections.abc import Mapping
import math
from typing import Any

import numpy as np
import pytest

from rsfm_jax.curate.descriptors import (
    ENTROPY_BINS,
    Member,
    acquisition_values,
    decode_member,
    describe,
    entropy,
    feature_names,
    gradient,
    index_bands,
)
from rsfm_jax.data.dataset import Dataset
from rsfm_jax.layouts import Layout, Slot

SCENE = {"sun_elevation_deg": 35.0, "sun_azimuth_deg": 90.0}


def holed(record: Mapping[str, Any], layout: Layout, seed: int = 0) -> dict[str, Any]:
    """A record with three pixels in ten invalid, each band its own."""
    rng, record = np.random.default_rng(seed), dict(record)
    for i in range(len(layout.slots)):
        record[f"valid_{i}"] = np.packbits(rng.random(record[f"pixels_{i}"].size) < 0.7)
    return record


def described(record: Mapping[str, Any], layout: Layout, dataset: Dataset, scene: Mapping[str, float] = SCENE) -> dict[str, float]:
    members = [decode_member(record, i, scene) for i in range(len(layout.slots))]
    return dict(zip(feature_names(layout), describe(layout, members, dataset.statistics).tolist(), strict=True))


def percentile(values: list[float], share: float) -> float:
    ordered = sorted(values)
    at = share * (len(ordered) - 1)
    low = math.floor(at)
    return ordered[low] + (at - low) * (ordered[min(low + 1, len(ordered) - 1)] - ordered[low])


@pytest.mark.parametrize("number", [0, 1])
def test_a_real_chip_with_gaps_pixel_by_pixel(tiny_dataset: Dataset, number: int):
    layout = tiny_dataset.layouts[number]
    record = holed(tiny_dataset.source(layout, "train")[5], layout)
    found = described(record, layout, tiny_dataset)
    for i, slot in enumerate(layout.slots):
        shape = record[f"pixels_{i}"].shape
        valid = np.unpackbits(record[f"valid_{i}"])[: math.prod(shape)].reshape(shape)
        values: dict[tuple[int, int, int], float] = {}
        for row, column, c in np.argwhere(valid).tolist():
            values[row, column, c] = int(record[f"pixels_{i}"][row, column, c]) * record[f"scale_{i}"][c] + record[f"offset_{i}"][c]
        for c, band in enumerate(slot.bands):
            mine = {place[:2]: value for place, value in values.items() if place[2] == c}
            mean = math.fsum(mine.values()) / len(mine)
            std = math.sqrt(math.fsum((value - mean) ** 2 for value in mine.values()) / len(mine))
            down = [(mine[r + 1, k] - v) ** 2 for (r, k), v in mine.items() if (r + 1, k) in mine]
            right = [(mine[r, k + 1] - v) ** 2 for (r, k), v in mine.items() if (r, k + 1) in mine]
            expected = {
                "mean": mean,
                "std": std,
                "p5": percentile(list(mine.values()), 0.05),
                "p50": percentile(list(mine.values()), 0.5),
                "p95": percentile(list(mine.values()), 0.95),
                "gradient": math.sqrt(sum(down) / len(down) + sum(right) / len(right)),
            }
            for name, value in expected.items():
                assert found[f"{i}.{band}.{name}"] == pytest.approx(value, rel=1e-5), (i, band, name)
        assert found[f"{i}.valid_share"] == pytest.approx(valid.mean())


def test_indices_are_medians_over_pixels_valid_in_both_bands(tiny_dataset: Dataset):
    layout = tiny_dataset.layouts[0]  # B02 B03 B04 B08
    record = holed(tiny_dataset.source(layout, "train")[5], layout)
    found = described(record, layout, tiny_dataset)
    shape = record["pixels_0"].shape
    valid = np.unpackbits(record["valid_0"])[: math.prod(shape)].reshape(shape).astype(bool)
    values = record["pixels_0"] * 1e-4
    for name, a, b in (("ndvi", 3, 2), ("ndwi", 1, 3)):
        ratios = [(p[a] - p[b]) / (p[a] + p[b]) for p, v in zip(values.reshape(-1, 4), valid.reshape(-1, 4), strict=True) if v[a] and v[b]]
        assert found[f"0.{name}"] == pytest.approx(percentile(ratios, 0.5), abs=1e-6)
    assert found["0.ndvi"] > 0.1  # fields in summer


@pytest.mark.parametrize(
    ("sensor", "bands", "expected"),
    [
        ("sentinel2_l2a", ("B03", "B04", "B05", "B07", "B08", "B8A"), {"ndvi": (4, 1), "ndwi": (0, 4)}),
        ("sentinel2_l2a", ("B8A", "B04"), {"ndvi": (0, 1)}),
        ("landsat8_l1", ("B4", "B5", "B6"), {"ndvi": (1, 0)}),
        ("landsat8_l1", ("B8",), {}),
        ("landsat7_l1", ("B8", "B4"), {}),
        ("worldview2_pan", ("P",), {}),
        ("naip", ("R", "G", "B", "N"), {"ndvi": (3, 0), "ndwi": (1, 3)}),
        ("sentinel1_grd", ("VV", "VH"), {}),
    ],
)
def test_colours_are_found_by_wavelength(sensor, bands, expected):
    assert index_bands(Slot(sensor, bands, 10.0, pixels=8, patch=4)) == expected


@pytest.mark.parametrize("number", [0, 1])
def test_invalid_pixels_never_move_a_descriptor(tiny_dataset: Dataset, number: int):
    layout = tiny_dataset.layouts[number]
    record = holed(tiny_dataset.source(layout, "train")[5], layout)
    before = described(record, layout, tiny_dataset)
    rng = np.random.default_rng(1)
    for i in range(len(layout.slots)):
        shape = record[f"pixels_{i}"].shape
        valid = np.unpackbits(record[f"valid_{i}"])[: math.prod(shape)].reshape(shape).astype(bool)
        record[f"pixels_{i}"] = np.where(valid, record[f"pixels_{i}"], rng.integers(-30000, 30000, shape)).astype(np.int16)
    assert described(record, layout, tiny_dataset) == pytest.approx(before, rel=0, abs=0, nan_ok=True)
    for i in range(len(layout.slots)):  # nodata that is not a number
        shape = record[f"pixels_{i}"].shape
        valid = np.unpackbits(record[f"valid_{i}"])[: math.prod(shape)].reshape(shape).astype(bool)
        record[f"pixels_{i}"] = np.where(valid, record[f"pixels_{i}"], np.nan)
    assert described(record, layout, tiny_dataset) == pytest.approx(before, rel=0, abs=0, nan_ok=True)


def test_entropy_of_known_histograms():
    statistics = {"mean": 10.0, "std": 2.0}
    width = 6 * 2.0 / ENTROPY_BINS
    low = 10.0 - 6.0
    assert entropy(np.full(50, 11.0), statistics) == 0.0
    assert entropy(low + width * (np.arange(ENTROPY_BINS) + 0.5), statistics) == pytest.approx(6.0)
    assert entropy(np.array([-1e9, -1e9, 1e9, 1e9]), statistics) == pytest.approx(1.0)  # the outer bins hold what lies outside
    assert entropy(low + width * np.array([0.5, 0.5, 0.5, 7.5]), statistics) == pytest.approx(
        -(0.75 * math.log2(0.75) + 0.25 * math.log2(0.25))
    )
    assert math.isnan(entropy(np.array([]), statistics))


def test_a_gradient_of_known_ramps_and_of_pixels_without_neighbours():
    ramp = np.add.outer(3.0 * np.arange(6), 4.0 * np.arange(5))
    assert gradient(ramp, np.ones((6, 5), bool)) == pytest.approx(5.0)
    assert math.isnan(gradient(ramp, np.indices((6, 5)).sum(axis=0) % 2 == 0))


def test_what_is_unknown_of_an_acquisition_is_not_a_number_and_says_so():
    unknown = acquisition_values((0.0, 0.0, 0.0), {})
    assert {name for name, value in unknown.items() if math.isnan(value)} == {name for name in unknown if not name.endswith("_known")}
    assert {value for name, value in unknown.items() if name.endswith("_known")} == {0.0}
    known = acquisition_values((1.0, 2019.0, 365.25 / 4), SCENE | {"off_nadir_deg": 0.0})
    assert known["year"] == 2019.0
    assert (known["day_sin"], known["day_cos"]) == pytest.approx((1.0, 0.0), abs=1e-12)
    assert (known["sun_azimuth_sin"], known["sun_azimuth_cos"]) == pytest.approx((1.0, 0.0), abs=1e-12)
    assert (known["off_nadir_deg"], known["off_nadir_deg_known"]) == (0.0, 1.0)
    assert known["cloud_percent_known"] == 0.0


def test_an_acquisition_is_described_once_and_its_members_all(tiny_dataset: Dataset):
    names = feature_names(tiny_dataset.layouts[1])  # slots 0 and 1 are one acquisition
    assert "0.year" in names
    assert "1.year" not in names
    assert "2.year" in names
    assert {"0.B4.mean", "1.B8.mean", "2.B3.mean", "1.valid_share"} <= set(names)
    assert (names["1.B8.p5"], names["1.B8.entropy"], names["2.year"]) == ("spectral", "texture", "metadata")


def test_a_band_without_a_valid_pixel_is_unknown():
    layout = Layout("one", (Slot("dem", ("elevation",), 10.0, pixels=4, patch=4),))
    member = Member(np.zeros((4, 4, 1)), np.zeros((4, 4, 1), bool), (0.0, 0.0, 0.0), {}, np.array([np.inf]))
    found = dict(zip(feature_names(layout), describe(layout, [member], {"dem": {"elevation": {"mean": 0.0, "std": 1.0}}}), strict=True))
    assert math.isnan(found["0.elevation.mean"])
    assert math.isnan(found["0.elevation.entropy"])
    assert found["0.valid_share"] == 0.0
