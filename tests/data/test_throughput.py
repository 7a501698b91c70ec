"""What the input's front door measures and answers."""

import json

import pytest

from rsfm_jax.config import DataConfig
from rsfm_jax.data.dataset import Dataset
from rsfm_jax.data.throughput import HOST_CORES, PEAK_FLOPS, Throughput, measure, needed_sets_per_s, table, verdict
from tests.helpers import run_door

FOUND = Throughput("rgb", 1.2, 2.9, {"read and decompress": 3.0, "normalise": 1.0}, [100.0, 300.0, 200.0], "threads of this process: 2")


def test_rates_follow_from_what_was_measured():
    assert FOUND.sets_per_core_s == pytest.approx(250.0)
    assert FOUND.sets_per_s == 200.0
    assert "75.0%" in table(FOUND)


def test_what_a_chip_needs():
    assert needed_sets_per_s("v5p", 459.0, 0.4) == pytest.approx(400.0)
    assert set(HOST_CORES) == set(PEAK_FLOPS)


@pytest.mark.parametrize(
    ("needed", "enough", "cores"), [(200.0, True, "0.8 core"), (201.0, False, "0.8 core"), (1000.0, False, "4.0 core")]
)
def test_the_verdict(needed: float, enough: bool, cores: str):
    keeps_up, said = verdict(FOUND, needed, "h100")
    assert keeps_up is enough
    assert cores in said
    assert "whose host has 26" in said
    assert ("does not keep up" in said) is not enough


def test_every_stage_is_measured(tiny_dataset: Dataset):
    found = measure(tiny_dataset, DataConfig(global_batch_size=8), tiny_dataset.layouts[0], sets=32, rounds=2)
    assert list(found.stages_ms) == ["read and decompress", "find the features", "normalise into the batch"]
    assert all(-0.1 < value < 50 for value in found.stages_ms.values())
    assert 0.005 < 1e3 / found.sets_per_core_s < 50
    assert len(found.stream_sets_per_s) == 2
    pixels = sum(16 * 16 * 4 * (4 + 1) + 7 * 4 for _ in range(2)) + 256 + 12
    assert found.example_mib * 2**20 == pixels


BENCHMARK = ("--benchmark", "--config=tests/tiny_config.py", "--sets=16", "--rounds=1")


def test_the_front_door(tiny_path):
    done = run_door("rsfm_jax.data", *BENCHMARK, f"--config.data.path={tiny_path}", "--sets_per_s=1e9", "--json")
    assert done.returncode == 3, done.stderr
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [row["layout"] for row in rows] == ["series", "landsat"]
    assert all(row["needed_sets_per_s"] == 1e9 and not row["enough"] for row in rows)
    done = run_door("rsfm_jax.data", *BENCHMARK, f"--config.data.path={tiny_path}", "--accelerator=h100", "--gflop_per_set=1e9")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("keeps up") == 2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "say what to do: --benchmark"),
        ((*BENCHMARK, "--accelerator=v9"), "--accelerator=v9: must be one of v5e, v5p"),
        ((*BENCHMARK, "--accelerator=h100"), "--accelerator and --gflop_per_set go together"),
        ((*BENCHMARK, "--sets_per_s=5", "--gflop_per_set=5"), "give one of them"),
        ((*BENCHMARK, "--sets_per_s=-5"), "--sets_per_s=-5: must be positive"),
        (BENCHMARK, "config.data.path is empty"),
    ],
)
def test_bad_input(words: tuple[str, ...], message: str):
    done = run_door("rsfm_jax.data", *words)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr
