"""The curation benchmark, as a user runs it, on few points."""

import json
import pathlib

import pytest

pytest.importorskip("sklearn", reason="scikit-learn isn't installed; it is the peer")

from benchmarks.curation import on_chips
from rsfm_jax.config import CurateConfig
from rsfm_jax.curate.pipeline import Order, run_curate


def test_all_parts(benchmark_script):
    done = benchmark_script("curation", "--flat_points=200", "--points=300", "--sizes=160,320", "--classes=20")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert [problem["spread"] for problem in found["a"]] == [0.2, 0.7]
    for problem in found["a"]:
        assert problem["same"]
        assert [row["who"] for row in problem["rows"]][:2] == ["scikit-learn", "one block"]
        assert problem["rows"][2]["net_ratio"] > 0.97
    assert found["b"]["rows"][0]["classes"] > found["b"]["rows"][2]["classes"]
    assert [row["points"] for row in found["c"]["rows"]] == [160, 320]
    assert found["c"]["rows"][0]["peak_gib"] > 0


@pytest.mark.parametrize(
    ("flag", "message"),
    [("--part=a,e", "e is none of a, b, c, d"), ("--points=10", "at least 3,200 points"), ("--part=d", "--part=d: reads real")],
)
def test_bad_flags(benchmark_script, flag, message):
    done = benchmark_script("curation", flag)
    assert done.returncode == 2
    assert message in done.stderr


def test_chips_beside_random_samples(tiny_path: pathlib.Path, tmp_path: pathlib.Path):
    found = on_chips(tiny_path, [1 / 3], 2)
    assert found["sets"] == sum(row["sets"] for row in found["rows"])
    coverage = [run_curate(Order(tiny_path, 35, tmp_path / str(seed)), CurateConfig(seed=seed))["layouts"] for seed in (0, 1)]
    for row in found["rows"]:
        of = [run[row["layout"]]["coverage"] for run in coverage]
        assert row["p95_distance"] == pytest.approx((of[0]["kept"]["p95_distance"] + of[1]["kept"]["p95_distance"]) / 2)
        sd = [run["random_sd"]["mean_distance"] for run in of]
        assert row["random mean_distance sd"] == pytest.approx(((sd[0] ** 2 + sd[1] ** 2) / 2) ** 0.5)
        assert row["clusters_covered"] == row["clusters"]
        assert row["random clusters_covered"] < row["clusters"]
    assert sum(row["kept"] for row in found["rows"]) == 35
