"""The curation benchmark, as a user runs it, on few points."""

import json

import pytest

pytest.importorskip("sklearn", reason="scikit-learn isn't installed; it is the peer")


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


@pytest.mark.parametrize(("flag", "message"), [("--part=a,d", "d is none of a, b, c"), ("--points=10", "at least 3,200 points")])
def test_bad_flags(benchmark_script, flag, message):
    done = benchmark_script("curation", flag)
    assert done.returncode == 2
    assert message in done.stderr
