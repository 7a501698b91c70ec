"""Samples of restoration: the same ground in every image, degraded or with gaps, and nothing that does not fit."""

import numpy as np
import pytest

pytest.importorskip("torch", reason="no CPU wheel of PyTorch for this Python")
pytest.importorskip("geopandas", reason="the extra that evaluates is not installed")

from rsfm_jax.errors import InputError
from rsfm_jax.evaluate.samples.restored import RestoredSamples, read_restored
from rsfm_jax.evaluate.samples.sides import make_splits
from rsfm_jax.evaluate.samples.spoiling import area_mean, draw_gaps
from rsfm_jax.evaluate.tasks.task import read_task
from tests.evaluate.small_scene import LEFT, TOP
from tests.evaluate.small_sets import FILL, SHARPEN, WINDOW, coarse_and_fine, dates, scene, write_sets
from tests.helpers import write_geotiff


def read(folder, task, **changes) -> RestoredSamples:
    file = write_sets(folder, task, **changes)
    return read_restored(read_task(file), folder, file)


def test_area_means_by_hand():
    values = np.arange(32, dtype=np.float32).reshape(1, 2, 4, 4)
    valid = np.ones_like(values, bool)
    valid[0, 0, 0, 0] = valid[0, 1, :2, :2] = False
    means, seen = area_mean(values, valid, 2)
    np.testing.assert_allclose(means[0, 0], [[(1 + 4 + 5) / 3, 4.5], [10.5, 12.5]])
    np.testing.assert_allclose(means[0, 1], [[0, 20.5], [26.5, 28.5]])
    assert seen[0].tolist() == [[[True, True], [True, True]], [[False, True], [True, True]]]


def test_gaps_are_blobs_of_a_stated_share():
    gaps = draw_gaps(40, 0.3, 3, (0, 1))
    assert gaps.sum() == round(0.3 * 1600)
    alike = (gaps[:, 1:] == gaps[:, :-1]).mean()
    assert alike > 0.85  # 0.58 for single pixels
    np.testing.assert_array_equal(gaps, draw_gaps(40, 0.3, 3, (0, 1)))
    assert (gaps != draw_gaps(40, 0.3, 3, (0, 2))).any()
    assert (draw_gaps(4, 0.001, 1, (0,)).sum(), draw_gaps(4, 0.999, 1, (0,)).sum()) == (1, 15)


def test_degraded_inputs_lie_on_the_targets_ground(tmp_path):
    coarse, fine = coarse_and_fine(tmp_path)
    samples = read(tmp_path, SHARPEN)
    assert [(chips.values.shape, chips.inputs[0].gsd_m) for chips in samples.members] == [
        ((64, 2, 8, 8), 40.0),
        ((64, 2, 16, 16), 20.0),
    ]
    ground = samples.chips.ground
    assert ground is not None
    for i in (0, 27, 63):
        row, column = round((TOP - ground.y_m[i]) / 20 - 0.5) - 8, round((ground.x_m[i] - LEFT) / 20 - 0.5) - 8
        truth = coarse[:, row : row + WINDOW, column : column + WINDOW] * 1e-4
        np.testing.assert_allclose(samples.targets[i], truth, atol=1e-7)
        seen = truth.reshape(2, 8, 2, 8, 2) > 0
        means = truth.reshape(2, 8, 2, 8, 2).sum(axis=(2, 4)) / seen.sum(axis=(2, 4))  # the missing pixel is in no mean
        np.testing.assert_allclose(samples.members[0].values[i], means, atol=1e-7)
        beside = fine[:, 2 * row : 2 * row + 32, 2 * column + 1 : 2 * column + 33] * 1e-4
        np.testing.assert_allclose(samples.members[1].values[i], beside.reshape(2, 16, 2, 16, 2).mean(axis=(2, 4)), atol=1e-7)
    assert (~samples.chips.valid).sum() == 2
    assert samples.members[0].valid.all()
    assert not samples.gap.any()


def test_gaps_are_in_the_first_input_only(tmp_path):
    images = dates(tmp_path)
    samples = read(tmp_path, FILL)
    first, others = samples.members[0], samples.members[1:]
    assert samples.keeps
    assert len(samples) == 128
    assert (samples.gap.sum(axis=(1, 2)) == 64).all()
    np.testing.assert_array_equal(~first.valid, np.repeat(samples.gap[:, None], 2, axis=1))
    np.testing.assert_array_equal(first.values[first.valid], samples.targets[first.valid])
    assert not first.values[~first.valid].any()
    assert all(chips.valid.all() for chips in others)
    assert set(samples.columns["target"]) == {"date1", "date2"}
    assert set(samples.columns["scene"]) == {"date1"}  # one ground, so that no split tears it
    second = samples.columns["target"] == "date2"
    np.testing.assert_allclose(others[0].values[second][0], images[1, :, :WINDOW, :WINDOW] * 1e-4, atol=1e-7)
    np.testing.assert_array_equal(samples.groups[second], samples.groups[~second])
    assert (samples.gap[second] != samples.gap[~second]).any(axis=(1, 2)).all()
    fewer = read(tmp_path, FILL, source={"most": 20})
    assert fewer.dropped["not drawn"] == 108
    at = [(x, y, name) for x, y, name in zip(samples.chips.ground.x_m, samples.chips.ground.y_m, samples.columns["target"], strict=True)]
    kept = [at.index(one) for one in zip(fewer.chips.ground.x_m, fewer.chips.ground.y_m, fewer.columns["target"], strict=True)]
    np.testing.assert_array_equal(fewer.gap, samples.gap[kept])  # a gap is its place's, however many are drawn
    assert fewer.digest() != samples.digest()


def test_an_input_that_saw_too_little_is_counted(tmp_path):
    images = dates(tmp_path)
    images[0, :, :, :24] = 0
    write_geotiff(tmp_path / "date0.tif", images[0], crs="EPSG:32631", left=LEFT, top=TOP, gsd=20.0)
    samples = read(tmp_path, FILL)
    assert samples.dropped["less than 50% of an input observed"] == 16  # a column of 8 chips of both sets; of the second half is there
    assert len(samples) == 112


def test_gaps_where_nothing_was_observed_are_counted(tmp_path):
    images = dates(tmp_path)
    before = read(tmp_path, FILL)
    ground, left = before.chips.ground, before.columns["target"] == "date1"
    assert ground is not None
    found = 0
    for i in np.flatnonzero(left)[:3]:  # what the gaps of three chips of date1 cover was never seen
        row, column = round((TOP - ground.y_m[i]) / 20 - 0.5) - 8, round((ground.x_m[i] - LEFT) / 20 - 0.5) - 8
        images[1, :, row : row + WINDOW, column : column + WINDOW][:, before.gap[i]] = 0
        found += 1
    write_geotiff(tmp_path / "date1.tif", images[1], crs="EPSG:32631", left=LEFT, top=TOP, gsd=20.0)
    samples = read(tmp_path, FILL)
    assert samples.dropped["no pixel of the gaps was observed"] == found == 3
    assert len(samples) == len(before) - 3 == len(samples.columns["target"]) == len(samples.members[2].values)
    assert samples.gap.any(axis=(1, 2)).all()


def test_both_sides_share_no_pixel(tmp_path):
    dates(tmp_path)
    file = write_sets(tmp_path, FILL, split={"kind": "spatial", "axis": "x", "gap_m": 0}, source={"stride_px": 8})
    task = read_task(file)
    with pytest.raises(InputError, match="overlap in scene date1"):
        make_splits(task, read_restored(task, tmp_path, file))


@pytest.mark.parametrize(
    ("task", "changes", "words"),
    [
        (SHARPEN, {"source": {"degrade": 1}}, ["source: degrade is 1", "at least 2"]),
        (SHARPEN, {"source": {"degrde": 2}}, ["source: unknown key 'degrde'", "did you mean 'degrade'?"]),
        (SHARPEN, {"source": {"gaps": {"share": 0.5, "blob_px": 2}}}, ["source: degrade is 2, gaps", "one of both at most"]),
        (FILL, {"source": {"gaps": {"share": 1.5, "blob_px": 2}}}, ["source: gaps: share is 1.5"]),
        (FILL, {"source": {"gaps": None}}, ["sets: target 'date1' with inputs date1, date0, date2", "no input else"]),
        (SHARPEN, {"source": {"sets": [{"target": "coarse", "inputs": ["fine"]}]}}, ["expected the target as first input"]),
        (SHARPEN, {"source": {"sets": [{"target": "coarse", "inputs": []}]}}, ["sets[0]: inputs are []"]),
        (SHARPEN, {"source": {"block_px": 6}}, ["window_px is 16 and block_px 6; expected a multiple"]),
        (SHARPEN, {"source": {"data_range": 0}}, ["data_range are 1 sets, 16 and 0"]),
        (SHARPEN, {"source": {"resample": "bilinear"}}, ["resample: a resampled image is no truth"]),
        (SHARPEN, {"kind": "regression"}, ["kind is regression and source of kind restored"]),
        (SHARPEN, {"metrics": ["psnr_db"]}, ["metrics: 'psnr_db' is not known for restoration", "did you mean 'psnr'"]),
        (SHARPEN, {"training": {"head": "uper"}}, ["head and class_weights are of segmentation"]),
        (SHARPEN, {"source": {"window_px": 17, "block_px": 17}}, ["input 'coarse'", "is 17 of its own", "a multiple of degrade (2)"]),
        (SHARPEN, {"source": {"sets": [{"target": "coarse", "inputs": ["coarse", "fin"]}]}}, ["no image 'fin'", "did you mean 'fine'"]),
        (
            SHARPEN,
            {"source": {"images": [scene("coarse", "B04", "B08"), scene("fine", "B02", "B05x")]}},
            ["scene 'fine'", "'B05x'"],
        ),
        (
            FILL,
            {"source": {"images": [scene("date1", "B04", "B08"), scene("date0", "B04"), scene("date2", "B04", "B08")]}},
            ["inputs number 2 are of 2 sensors, bands or GSDs"],
        ),
        (
            FILL,
            {"source": {"gaps": None, "sets": [{"target": "date1", "inputs": ["coarse"]}], "images": [
                scene("date1", "B04", "B08"), scene("coarse", "B08", "B04")]}},
            ["target 'date1' has the bands B04, B08 and the first input 'coarse' B08, B04"],
        ),
    ],
    ids=lambda value: value["name"] if isinstance(value, dict) and "name" in value else str(value)[:60],
)  # fmt: skip
def test_what_is_wrong_is_named(tmp_path, task, changes, words):
    coarse_and_fine(tmp_path)
    dates(tmp_path)
    with pytest.raises(InputError) as caught:
        read(tmp_path, task, **changes)
    missing = [word for word in words if word not in str(caught.value)]
    assert not missing, f"{missing} not in {caught.value}"


def test_a_pan_band_between_the_pixels_is_refused(tmp_path, shared_data):
    name = "LC08_L1TP_195025_20130707_20170503_01_T1_B{}.TIF"
    described = {"sensor": "landsat8_l1", "acquired_utc": "2013-07-07"}
    images = [
        described | {"id": "multispectral", "bands": {"B4": name.format(4), "B5": name.format(5)}},
        described | {"id": "pan", "bands": {"B8": name.format(8)}},
    ]
    file = write_sets(
        tmp_path, SHARPEN, source={"images": images, "sets": [{"target": "multispectral", "inputs": ["multispectral", "pan"]}]}
    )
    with pytest.raises(InputError, match=r"input 'pan': is 0\.5 of its pixels off the target's grid"):
        read_restored(read_task(file), shared_data / "rsatellite_l7l8_marburg", file)
