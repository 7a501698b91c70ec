"""The input benchmark on small chips, as a user runs it."""

import json

import pytest

FLAGS = ("--pixels=32", "--sets=16", "--batch=4", "--batches=4", "--rounds=2")


def test_both_are_timed_in_turn(benchmark_script):
    done = benchmark_script("data_pipeline", *FLAGS, "--least=0")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("round ") == 2
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["records"] >= 9
    assert found["set"] == [3, 32, 32, 4]
    assert found["ratios"][0] <= found["ratio_pipeline_over_alone"] <= found["ratios"][1]
    assert found["pipeline_sets_per_core_s"] < found["alone_sets_per_core_s"]
    assert found["ratio_pipeline_over_alone"] == pytest.approx(found["pipeline_sets_per_core_s"] / found["alone_sets_per_core_s"], rel=0.5)


def test_the_share_is_held(benchmark_script):
    assert benchmark_script("data_pipeline", *FLAGS, "--least=2").returncode == 3


def test_no_scene(benchmark_script, tmp_path):
    done = benchmark_script("data_pipeline", *FLAGS, f"--data={tmp_path}")
    assert done.returncode == 2
    assert "no s2_B02.tif there" in done.stderr
