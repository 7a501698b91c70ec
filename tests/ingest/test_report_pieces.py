"""What the page about a dataset is made of: samples, histograms, tiles of one ground, places, days between members."""

from collections import Counter
import datetime

import numpy as np
import pytest

from rsfm_jax.data.dataset import open_dataset
from rsfm_jax.display import INVALID
from rsfm_jax.geo import Rect
from rsfm_jax.ingest.report.census import Reservoir
from rsfm_jax.ingest.report.charts import member_gaps
from rsfm_jax.ingest.report.maps import Footprints, draw_map, places
from rsfm_jax.ingest.report.sampling import BINS, BandValues, bin_edges, draw, spread
from rsfm_jax.ingest.report.tiles import MARGIN, UNSEEN, checkerboard, common_ground, on_ground, set_tiles, tile_shape
from rsfm_jax.layouts import Layout, Slot
from rsfm_jax.sensors import get_sensor
from tests.helpers import ingest, one_slot, records, scene, write_geotiff, write_scenes_yaml


def test_a_reservoir_is_a_uniform_sample():
    counts = Counter()
    for seed in range(2000):
        reservoir = Reservoir(5, seed)
        for item in range(20):
            reservoir.add(item)
        assert len(set(reservoir.items)) == 5
        assert reservoir.seen == 20
        counts.update(reservoir.items)
    expected, spread_ = 2000 * 5 / 20, (2000 * 0.25 * 0.75) ** 0.5
    assert all(abs(counts[item] - expected) < 4.5 * spread_ for item in range(20))


def test_a_reservoir_of_few_items_holds_all():
    reservoir = Reservoir(5, 0)
    for item in range(3):
        reservoir.add(item)
    assert reservoir.items == [0, 1, 2]


@pytest.mark.parametrize(("scale", "offset"), [(1e-4, -0.1), (1.0, 0.0), (-0.5, 3.0)])
def test_bins_of_digital_numbers_hold_equally_many(scale, offset):
    known = dict(
        zip(
            ("min", "max", "mean", "std"),
            (*sorted((offset + 10 * scale, offset + 790 * scale)), offset + 300 * scale, 200.0 * abs(scale)),
            strict=True,
        )
    )
    edges = bin_edges(known, scale, offset, integer=True)
    assert len(edges) <= BINS + 2
    every = offset + scale * np.arange(10, 791)
    counts, _ = np.histogram(every, edges)
    assert len(set(counts[1:-1])) == 1
    assert counts.sum() == len(every)


def test_bins_of_real_numbers_reach_four_deviations():
    edges = bin_edges({"min": -30.0, "max": 1000.0, "mean": 2.0, "std": 4.0}, 1.0, 0.0, integer=False)
    assert len(edges) == BINS + 1
    assert (edges[0], edges[-1]) == (-14.0, 18.0)


def test_shares_of_values_against_numpy():
    rng = np.random.default_rng(0)
    values = rng.normal(0.3, 0.6, (3, 40, 50))
    valid = rng.random(values.shape) < 0.7
    edges = np.linspace(0.0, 1.0, 21)
    band = get_sensor("sentinel2_l2a").band("B04")  # -0.2 to 2
    found = BandValues(band, edges, np.zeros(20, np.int64))
    for image, seen in zip(values, valid, strict=True):
        found.add(image, seen)
    kept = values[valid]
    assert found.valid_share == pytest.approx(valid.mean())
    assert found.outside_share == pytest.approx(((kept < -0.2) | (kept > 2.0)).mean())
    assert found.undrawn_share == pytest.approx(((kept < 0) | (kept > 1)).mean())
    np.testing.assert_array_equal(found.counts, np.histogram(kept, edges)[0])
    assert (found.statistics.mean, found.statistics.std) == (pytest.approx(kept.mean()), pytest.approx(kept.std()))
    np.testing.assert_allclose(found.percentiles([40, 60, 80]), np.percentile(kept, [40, 60, 80]), atol=0.01)
    assert found.percentiles([2, 99]).tolist() == [0.0, 1.0]  # both lie in no bin


def test_drawn_values_outside_the_plausible_range(tmp_path):
    heights = np.random.default_rng(0).uniform(0, 4000, (64, 64)).astype(np.float32)
    heights[:16, :2] = 9500.0  # 32 of 4096: less than the 1 % that ingest refuses
    heights[40:, 60:] = -1.0
    write_geotiff(tmp_path / "scenes" / "dem.tif", heights, nodata=-1.0)
    write_scenes_yaml(tmp_path / "scenes", scene())
    out, _ = ingest(tmp_path / "scenes", one_slot(pixels=32, stride_m=320.0))
    values = {}
    dataset = open_dataset(str(out))
    drawn = draw(dataset, dataset.layouts[0], values, 100, 0)
    assert sorted(drawn.places) == [("train", i) for i in range(4)]
    (found,) = values.values()
    assert found.pixels == 4096
    assert found.valid_share == 1 - 24 * 4 / 4096
    assert found.outside == 32
    assert found.statistics.count == (heights != -1).sum()


def test_draws_are_bounded_spread_over_splits_and_repeatable(tmp_path):
    write_geotiff(tmp_path / "scenes" / "dem.tif", np.random.default_rng(0).integers(1, 900, (96, 96)).astype(np.int16))
    write_scenes_yaml(tmp_path / "scenes", scene())
    out, summary = ingest(tmp_path / "scenes", one_slot(stride_m=40.0), val_share=0.4, split_cell_m=300.0)
    dataset = open_dataset(str(out))
    first, again, other = (draw(dataset, dataset.layouts[0], {}, 30, seed) for seed in (0, 0, 1))
    assert first.places == again.places != other.places
    assert len(set(first.places)) == 30
    assert {split for split, _ in first.places} == {"train", "val"} == set(summary["sets"]["dem"])
    lonlat = {tuple(np.round(record["lonlat_deg"].mean(axis=0), 9)) for split in ("train", "val") for record in records(out, "dem", split)}
    assert {tuple(np.round(centre, 9)) for centre in first.centres_deg} <= lonlat


def test_spread_takes_the_farthest_and_none_twice():
    centres = np.array([[179.9, 0.0], [-179.9, 0.0], [10.0, 50.0], [10.0, 50.0], [0.0, 0.0]])
    assert spread(centres, 3) == [0, 4, 2]  # the second is a neighbour of the first, across the antimeridian
    assert sorted(spread(centres, 9)) == [0, 1, 2, 3, 4]


LAYOUT = Layout(
    "pair",
    (
        Slot("sentinel2_l2a", ("B04", "B03", "B02"), 10.0, pixels=12, patch=4),
        Slot("sentinel1_grd", ("VV",), 20.0, pixels=6, patch=2),
        Slot("dem", ("elevation",), 30.0, pixels=2, patch=1),
    ),
)


def _record() -> dict:
    """Members whose values are the x, in metres, of their pixels' centres; the second is half a pixel off, the third smaller."""
    grids = ([-60.0, 60.0, 10.0, 10.0], [-50.0, 60.0, 20.0, 20.0], [-30.0, 30.0, 30.0, 30.0])
    record = {"key": "k", "lonlat_deg": np.zeros((4, 2))}
    for i, (slot, grid) in enumerate(zip(LAYOUT.slots, grids, strict=True)):
        x = grid[0] + (np.arange(slot.pixels) + 0.5) * grid[2]
        pixels = np.broadcast_to(x[None, :, None], (slot.pixels, slot.pixels, len(slot.bands))).astype(np.float32)
        valid = np.ones(pixels.shape, bool)
        if i == 0:
            valid[2, 3, 1] = False  # one of the shown bands
        record |= {f"pixels_{i}": pixels, f"valid_{i}": np.packbits(valid), f"grid_m_{i}": np.array(grid)}
        record |= {f"scale_{i}": np.ones(pixels.shape[-1]), f"offset_{i}": np.zeros(pixels.shape[-1]), f"time_{i}": np.zeros(3)}
    return record


def _values() -> dict[tuple[str, str], BandValues]:
    """A stretch from -100 to 100 for every band."""
    made = {}
    for sensor, name in ((slot.sensor, name) for slot in LAYOUT.slots for name in slot.bands):
        made[sensor, name] = BandValues(get_sensor(sensor).band(name), np.linspace(-104.5, 104.5, 210), np.zeros(209, np.int64))
        made[sensor, name].add(np.linspace(-104, 104, 20801), np.ones(20801, bool))
    return made


def test_members_lie_on_one_ground():
    record = _record()
    ground = common_ground(LAYOUT, record)
    assert ground == Rect(-60.0, -60.0, 70.0, 60.0)
    shape = tile_shape(LAYOUT, ground)
    tiles = set_tiles(LAYOUT, record, ["a", "b", "c"], _values())
    assert [tile.title for tile in tiles] == ["1: a", "2: b", "3: c", "1 and 2 in turn, in grey"]
    assert {tile.image.shape for tile in tiles} == {(shape[0] + 2 * MARGIN, shape[1] + 2 * MARGIN, 3)}
    unseen = np.round(255 * np.array(UNSEEN)).astype(int)
    x = ground.left + (np.arange(shape[1]) + 0.5) * ground.width_m / shape[1]
    row = MARGIN + shape[0] // 2  # y = 0
    for tile, (left, right, gsd) in zip(tiles[:2], ((-60, 60, 10), (-50, 70, 20)), strict=False):
        line = tile.image[row, MARGIN:-MARGIN].astype(int)
        inside = (x > left) & (x < right)
        assert (line[~inside] == unseen).all()
        centre = left + (np.floor((x - left) / gsd) + 0.5) * gsd
        np.testing.assert_allclose(line[inside, 0], 255 * (centre[inside] + 100) / 200, atol=2)
    third = tiles[2].image[row, MARGIN:-MARGIN].astype(int)
    inside = np.abs(x) < 30
    assert (third[~inside] == unseen).all()
    assert set(third[inside, 0]) == {0, 255}  # elevation is stretched by the picture itself: two columns
    assert tiles[2].notes.startswith("elevation from -1")


def test_invalid_pixels_are_striped_in_their_colour():
    record = _record()
    ground = common_ground(LAYOUT, record)
    shape = tile_shape(LAYOUT, ground)
    tile = set_tiles(LAYOUT, record, ["a", "b", "c"], _values())[0]
    assert tile.notes == "B04, B03, B02; 99.3% valid"  # 143 of 144
    image = tile.image[MARGIN:-MARGIN, MARGIN:-MARGIN]
    plum = (image == np.round(255 * np.array(INVALID))).all(axis=-1)
    white = (image == 255).all(axis=-1)
    x = ground.left + (np.arange(shape[1]) + 0.5) * ground.width_m / shape[1]
    y = ground.top - (np.arange(shape[0]) + 0.5) * ground.height_m / shape[0]
    there = ((y < 40) & (y > 30))[:, None] & ((x > -30) & (x < -20))  # row 2, column 3
    assert (plum | white)[there].all()
    assert not (plum | white)[~there].any()
    assert 0.3 < plum[there].mean() < 0.7


def test_nearest_pixel_of_a_tile():
    colours = np.random.default_rng(0).random((3, 4, 3))
    tile = on_ground(colours, np.array([0.0, 3.0, 1.0, 1.0]), Rect(-1.0, -1.0, 5.0, 4.0), (10, 12))
    np.testing.assert_array_equal(tile[2:8, 2:10], colours.repeat(2, axis=0).repeat(2, axis=1))
    tile[2:8, 2:10] = UNSEEN
    assert (tile == UNSEEN).all()


def test_checkerboard():
    first, second = np.full((12, 12, 3), 0.25), np.full((12, 12, 3), 0.75)
    first[0, 0] = INVALID
    board = checkerboard(first, second)
    np.testing.assert_array_equal(board[0, 0], INVALID)
    np.testing.assert_allclose(board[0, 1:, 0], [0.25, 0.75, 0.75, 0.25, 0.25, 0.75, 0.75, 0.25, 0.25, 0.75, 0.75])
    np.testing.assert_allclose(board[2, :4, 0], [0.75, 0.75, 0.25, 0.25])


def _squares(lon: float, lat: float, rows: int, size: float = 0.01) -> np.ndarray:
    corners = size * np.array([[0, 1], [1, 1], [1, 0], [0, 0]])
    return np.stack([corners + [lon + size * i, lat + size * j] for i in range(rows) for j in range(rows)])


def test_places_far_apart_are_found():
    near = {"train": _squares(5.0, 45.0, 4), "rejected": _squares(5.04, 45.0, 4)}
    assert [place.count for place in places(Footprints(near))] == [32]
    far = near | {"val": np.concatenate([_squares(7.5, 46.5, 2), _squares(-70.0, -30.0, 5)])}
    found = places(Footprints(far))  # on a map of all of them the first two would be one
    assert [{group: len(corners) for group, corners in place.by_group.items()} for place in found] == [
        {"train": 16, "rejected": 16},
        {"val": 25},
        {"val": 4},
    ]


@pytest.mark.parametrize("lat", [0.0, 60.0])
def test_a_map_is_in_degrees_in_proportion_at_its_latitude(lat):
    axes = draw_map(Footprints({"train": _squares(10.0, lat, 6)}), 5.0).axes[0]
    assert axes.get_aspect() == pytest.approx(1 / np.cos(np.radians(lat + 0.03)), rel=1e-3)
    assert axes.get_xlim()[0] < 10.0 < 10.06 < axes.get_xlim()[1]
    assert axes.get_ylim()[0] < lat < lat + 0.06 < axes.get_ylim()[1]
    (bar,) = axes.get_lines()
    length_deg = np.ptp(bar.get_xdata()) * np.ptp(axes.get_xlim())
    stated = next(text.get_text() for text in axes.texts if text.get_text().endswith(" km"))
    assert length_deg * 111.19 * np.cos(np.radians(lat + 0.03)) == pytest.approx(float(stated.removesuffix(" km")), rel=1e-2)


def test_days_between_members():
    slots = tuple(Slot("sentinel2_l2a", ("B02",), 10.0, 8, 4, acquisition=letter) for letter in ("a", "a", "b", "c"))
    layout = Layout("four", slots)
    dates = [datetime.datetime(2019, 12, 30, 6), datetime.datetime(2019, 12, 30, 6), datetime.datetime(2021, 1, 2), None]
    starts = [date and (date - datetime.datetime(date.year, 1, 1)).total_seconds() / 86400 for date in dates]
    row = [[1.0, date.year, day] if date else [0.0, 0.0, 0.0] for date, day in zip(dates, starts, strict=True)]
    gaps = member_gaps(layout, np.array([row, row[::-1]]))
    assert set(gaps) == {(0, 2), (0, 3), (2, 3)}  # the first two are of one acquisition
    assert gaps[0, 2].tolist() == [(dates[2] - dates[0]).total_seconds() / 86400]
    assert gaps[0, 3].tolist() == []
    assert gaps[2, 3].tolist() == [0.0]
