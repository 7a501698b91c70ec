import math

from hypothesis import given, settings
from hypothesis import strategies as st
import numpy as np
import pytest

from rsfm_jax.errors import InputError
from rsfm_jax.ingest.statistics import BandStatistics, Statistics
from tests.helpers import ingest, one_slot, records, scene, valid_pixels, write_geotiff, write_scenes_yaml


@settings(deadline=None, max_examples=60)
@given(st.lists(st.lists(st.floats(-1e6, 1e6), max_size=8), min_size=1, max_size=8))
def test_chunks_merge_to_the_statistics_of_the_whole(chunks):
    running = BandStatistics()
    for chunk in chunks:
        running.add(np.array(chunk))
    whole = np.array([value for chunk in chunks for value in chunk])
    assert running.count == whole.size
    if whole.size:
        assert running.mean == pytest.approx(whole.mean(), rel=1e-9, abs=1e-9)
        assert running.std == pytest.approx(whole.std(), rel=1e-9, abs=1e-6)
        assert (running.low, running.high) == (whole.min(), whole.max())
    else:
        assert math.isnan(running.std)


def test_a_small_spread_on_a_large_offset_is_not_lost():
    running = BandStatistics()
    values = 1e9 + np.random.default_rng(0).normal(size=100_000)
    for chunk in np.split(values, 100):
        running.add(chunk)
    assert running.std == pytest.approx(values.std(), rel=1e-7)


def test_a_band_that_cannot_be_normalised_is_refused():
    for values, message in (([], "no valid pixel in any kept chip"), ([3.0, 3.0], "is 3 in every valid pixel")):
        statistics = Statistics()
        shape = (1, len(values), 1)
        statistics.add_chip("dem", ("elevation",), np.array(values).reshape(shape), np.ones(shape, bool))
        with pytest.raises(InputError, match=f"sensor 'dem', band 'elevation': {message}"):
            statistics.to_dict({("dem", "elevation"): "m"})


def _assert_statistics(dataset, summary):
    """Compares each statistic with numpy over the valid pixels of the records themselves."""
    pools = {}
    for layout in summary["layouts"]:
        for record in records(dataset, layout["name"]):
            for i, slot in enumerate(layout["slots"]):
                physical_HWC = record[f"scale_{i}"] * record[f"pixels_{i}"].astype(np.float64) + record[f"offset_{i}"]
                valid_HWC = valid_pixels(record, i)
                for c, band in enumerate(slot["bands"]):
                    pools.setdefault((slot["sensor"], band), []).append(physical_HWC[..., c][valid_HWC[..., c]])
    table = {(sensor, band): row for sensor, bands in summary["statistics"].items() for band, row in bands.items()}
    assert pools.keys() == table.keys()
    for key, row in table.items():
        values = np.concatenate(pools[key])
        assert row["count"] == values.size
        assert [row["mean"], row["std"], row["min"], row["max"]] == pytest.approx(
            [values.mean(), values.std(), values.min(), values.max()], rel=1e-9
        )


def test_statistics_are_numpys_over_the_kept_train_chips(demo_dataset, demo_summary):
    _assert_statistics(demo_dataset, demo_summary)


@pytest.mark.parametrize("resample", ["none", "bilinear", "average"])
@pytest.mark.parametrize("nodata_in", ["file", "scenes.yaml"])
def test_nodata_is_in_no_statistic(tmp_path, resample, nodata_in):
    values = np.random.default_rng(0).integers(100, 900, (64, 64)).astype(np.int16)
    values[:, 30:] = -9999
    said = -9999 if nodata_in == "scenes.yaml" else None
    write_geotiff(tmp_path / "scenes" / "dem.tif", values, nodata=-9999 if nodata_in == "file" else None)
    write_scenes_yaml(tmp_path / "scenes", scene(nodata=said))
    dataset, summary = ingest(tmp_path / "scenes", one_slot(resample=resample), min_valid_share=0.0)
    _assert_statistics(dataset, summary)
    row = summary["statistics"]["dem"]["elevation"]
    assert row["min"] >= 100
    assert row["max"] < 900
    assert 450 < row["mean"] < 550
    assert row["unit"] == "m"
    if resample == "none":
        seen = sum(valid_pixels(record, 0).sum() for record in records(dataset, "dem"))
        assert row["count"] == seen
        assert (row["min"], row["max"]) == (values[:, :30].min(), values[:, :30].max())


def test_the_split_val_is_in_no_statistic(tmp_path):
    ramp = np.add.outer(np.arange(256), np.arange(256)).astype(np.int16)
    write_geotiff(tmp_path / "scenes" / "dem.tif", ramp)
    write_scenes_yaml(tmp_path / "scenes", scene())
    dataset, summary = ingest(tmp_path / "scenes", one_slot(), val_share=0.3, split_cell_m=400.0)
    assert set(summary["sets"]["dem"]) == {"train", "val"}
    _assert_statistics(dataset, summary)
