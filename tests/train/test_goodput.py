"""Seconds of a run, added up over its starts."""

import time

import pytest

from rsfm_jax.train.goodput import SPANS, Clock, cost_of_start, goodput, summary_line


def test_a_lap_says_where_its_time_went():
    clock = Clock(8, peak_flops=1e9, began={"start_s": 2.5})
    with clock.spent_on("data_wait_s"):
        time.sleep(0.02)
    with clock.spent_on("compile_s"):
        time.sleep(0.03)
    clock.count(10_000)
    clock.count(30_000)
    row = clock.lap(2)
    assert row["data_wait_s"] >= 0.02
    assert row["compile_s"] >= 0.03
    assert row["checkpoint_s"] == row["picture_s"] == 0
    assert row["seconds"] == pytest.approx(2 * row["step_s"] + sum(row[name] for name in SPANS))
    assert row["sets_per_s"] == pytest.approx(16 / row["seconds"])
    assert row["flops_per_s"] == pytest.approx(40_000 / row["seconds"])
    assert row["mfu"] == pytest.approx(row["flops_per_s"] / 1e9)
    assert row["data_wait_share"] == pytest.approx(row["data_wait_s"] / row["seconds"])
    assert row["start_s"] == 2.5
    clock.count(5)
    again = clock.lap(1)
    assert again["data_wait_s"] == again["compile_s"] == 0
    assert "start_s" not in again
    assert again["flops_per_s"] == pytest.approx(5 / again["seconds"])


def test_no_mfu_where_the_peak_is_unknown():
    assert "mfu" not in Clock(8, None).lap(1)


def test_what_comes_after_the_last_lap():
    clock = Clock(8, None)
    with clock.spent_on("picture_s"):
        time.sleep(0.01)
    clock.lap(1)
    with clock.spent_on("checkpoint_s"):
        time.sleep(0.03)
    rest = clock.rest()
    assert 0.03 <= rest["checkpoint_s"] <= rest["seconds"]
    assert rest["picture_s"] == 0


def test_the_cost_of_a_start():
    now = time.time()
    assert cost_of_start([], [], now - 3) == pytest.approx({"start_s": 3, "starts": 1}, abs=0.5)
    kept = [{"step": 10, "unix_s": now - 100, "seconds": 7.0, "start_s": 2.0, "starts": 1}, {"step": 11}]
    dropped = [{"step": 12}, {"step": 13, "unix_s": now - 60, "seconds": 40.0}]
    assert cost_of_start(kept, dropped, now - 5) == pytest.approx({"start_s": 5, "starts": 1, "lost_s": 40, "down_s": 55}, abs=0.5)
    assert cost_of_start(kept, [], now - 5) == pytest.approx({"start_s": 5, "starts": 1, "lost_s": 0, "down_s": 95}, abs=0.5)


def test_a_start_that_ended_before_a_checkpoint_is_not_forgotten():
    """Its rows are dropped with what they say of its own start; the next start's row takes it over, through any number of such starts."""
    now = time.time()
    kept = [{"step": 10, "unix_s": now - 1000, "seconds": 90.0, "start_s": 3.0, "starts": 1}]
    first = {"step": 11, "unix_s": now - 700, "seconds": 20.0, "start_s": 4.0, "lost_s": 30.0, "down_s": 246.0, "starts": 2}
    dropped = [first, {"step": 12, "unix_s": now - 680, "seconds": 20.0}]
    cost = cost_of_start(kept, dropped, now - 80)
    assert cost == pytest.approx({"start_s": 80, "starts": 3, "lost_s": 20 + 4 + 30 + 20, "down_s": 246 + 600}, abs=0.5)
    found = goodput([*kept, {"step": 11, "seconds": 10.0, **cost}])
    assert found["starts"] == 4
    assert found["total_s"] + found["down_s"] == pytest.approx(90 + 3 + 10 + 80 + 74 + 846, abs=0.5)
    assert found["goodput"] == pytest.approx(100 / found["total_s"])


def test_a_run_of_two_starts_is_added_up():
    nothing = dict.fromkeys(SPANS, 0.0)
    rows = [
        {"step": 1},
        {"step": 2, "seconds": 50.0, **nothing, "compile_s": 20.0, "start_s": 5.0, "starts": 1, "mfu": 0.2},
        {"step": 3, "seconds": 30.0, **nothing, "data_wait_s": 2.0, "checkpoint_s": 3.0, "mfu": 0.4},
        {"step": 4, "seconds": 20.0, **nothing, "picture_s": 1.0, "start_s": 6.0, "starts": 1, "lost_s": 9.0, "down_s": 1000.0, "mfu": 0.6},
    ]
    found = goodput(rows)
    assert found["total_s"] == 50 + 30 + 20 + 5 + 6 + 9
    assert found["goodput"] == pytest.approx((30 + 25 + 19) / 120)
    assert found["starts"] == 2
    assert found["down_s"] == 1000
    assert found["mfu"] == pytest.approx((0.2 * 50 + 0.4 * 30 + 0.6 * 20) / 100)
    assert summary_line(found).startswith("goodput 61.7% of 120 s in 2 start(s): data 1.7%, compilation 16.7%,")
