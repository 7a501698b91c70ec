"""The front door, with the real TPU compiler: a small model for a slice of four chips."""

import importlib.util
import json
import os
import pathlib
import re
import subprocess
import sys
from typing import Any

import jax
import pytest

from rsfm_jax.compile.report import Report, advice
from rsfm_jax.config import Config, ParallelConfig
from rsfm_jax.models.build import abstract_model
from rsfm_jax.models.spec import model_spec
from rsfm_jax.parallel.mesh import check_batch, make_mesh
from rsfm_jax.train.flops import step_flops
from tests.helpers import assert_refused, run_door

needs_libtpu = pytest.mark.skipif(importlib.util.find_spec("libtpu") is None, reason="libtpu, the TPU compiler, is not installed")
SMALL = ("--config=tests/tiny_config.py", "--config.parallel.fsdp=2", "--config.data.global_batch_size=16", "--config.model.unroll=1")


@pytest.fixture(scope="module")
def report() -> dict[str, Any]:
    """The tiny model's layout of two Landsats on four chips."""
    done = run_door("rsfm_jax.compile", *SMALL, "--topology=v5e:2x2", "--json", timeout_s=400)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [row["layout"] for row in rows] == ["series", "landsat"]
    return rows[1]


@needs_libtpu
def test_what_a_pod_takes(report: dict[str, Any], tiny: Config):
    assert (report["chips"], report["device_batch_size"], report["slices"]) == (4, 4, 1)
    assert 2 * report["params_bytes"] <= report["optimizer_bytes"] <= 2 * report["params_bytes"] + 64  # two moments and counters
    pixels = sum(slot.pixels**2 * len(slot.bands) for slot in tiny.ingest.layouts[1].slots)
    assert 4 * pixels * 5 <= report["batch_bytes"] < 500 * pixels  # float32 and bool, padded to the chip's tiles; whole it would be 1,400
    assert report["activations_bytes"] > 0
    assert report["total_bytes"] == sum(report[f"{n}_bytes"] for n in ("params", "optimizer", "batch", "activations", "program"))
    assert 0 < report["hbm_share"] < 0.85
    assert report["fits"]
    assert report["gathers_one_layer"]
    assert report["flops"] == 4 * step_flops(tiny, tiny.ingest.layouts[1])


@needs_libtpu
def test_parameters_alone_are_sent(report: dict[str, Any], tiny: Config):
    """What is gathered and scattered over two chips is half of every kernel, the forward pass's and the backward pass's."""
    model = abstract_model(model_spec(tiny, tiny.ingest.layouts))
    kernels = sum(leaf.size for leaf in jax.tree.leaves(model.shapes) if leaf.ndim >= 2) * 4
    sent = report["collective_bytes"]
    assert 0.3 * kernels < sent["reduce-scatter"] + sent["all-reduce"] < 2 * kernels
    assert 0.2 * kernels < sent["all-gather"] < 2 * kernels
    assert sent["all-to-all"] == 0
    assert 0 <= report["beside_bytes"] <= report["collective_bytes_total"]
    assert report["estimated_cycles"] > 0


def _report(**changed: Any) -> Report:
    mib = 2**20
    sizes = {"params_bytes": 2 * mib, "optimizer_bytes": 4 * mib, "batch_bytes": mib, "activations_bytes": 79 * mib, "program_bytes": mib}
    largest = [("f32[8,3,96,96]", 30 * mib, "jit(step)/while/body/dot_general")]
    fields = {"layout": "one", "topology": "v5e:2x2", "slices": 1, "chips": 4, "device_batch_size": 8, "hbm_bytes": 64 * mib, "flops": 1.0}
    fields |= {"held_bytes": 0, "gathered_at_once": (3, 4)}
    others = {"peak_flops": 1.0, "collectives": [], "largest_gather": (1, 2), "largest": largest, "estimated_cycles": 1, "compile_s": 1.0}
    return Report(**(sizes | fields | others | changed))


def test_what_does_not_fit_is_named_with_what_to_change(tiny: Config):
    """85 % of 64 MiB less state and program is 47.4 MiB, of 80 MiB for 8 image sets: 4 fit."""
    report = _report()
    assert (report.total_bytes, report.fits) == (87 * 2**20, False)
    said = advice(report, tiny, 1, 1)
    assert "does not fit: 23 MiB too much" in said
    assert "30 MiB  f32[8,3,96,96]" in said
    assert "--config.data.global_batch_size=4: 4 image sets a chip" in said
    assert "--config.train.microbatches=2" in said
    assert "--config.model.remat=full" in said
    assert "fsdp" not in said
    tiny.model.remat = "full"
    said = advice(_report(optimizer_bytes=40 * 2**20), tiny, 1, 1)
    assert "remat" not in said
    assert "--config.parallel.fsdp=2 or more: the state takes 42 MiB" in said
    for more, fsdp, tensor in (({}, 2, 2), ({"slices": 2}, 2, 1), ({"chips": 8}, 4, 2)):
        assert "fsdp" not in advice(_report(optimizer_bytes=40 * 2**20, **more), tiny, fsdp, tensor)


def test_a_gather_of_several_layers_is_said():
    assert "largest parameter of a layer 0.0 MiB: one layer at a time" in _report().to_text()
    for too_much in ({"largest_gather": (3, 2)}, {"gathered_at_once": (5, 4)}):
        assert "MORE THAN ONE LAYER AT A TIME" in _report(**too_much).to_text()


def test_a_state_that_is_there_twice_for_a_checkpoint_counts(tiny: Config):
    """2 + 4 MiB of state; stacking it takes as much again, here less and then more than the step."""
    mib = 2**20
    assert _report(held_bytes=6 * mib).total_bytes == _report().total_bytes
    large = {"optimizer_bytes": 40 * mib, "activations_bytes": mib, "held_bytes": 42 * mib}
    report = _report(**large)
    assert (report.total_bytes, report.fits) == (84 * mib, False)
    assert "--config.model.unroll=1" in advice(report, tiny, 1, 1)
    assert f"{'held':16}{42:12} MiB" in report.to_text()


@pytest.mark.parametrize(("rows", "microbatches", "parts"), [(6, 2, 3), (8, 2, 2), (8, 4, 2), (8, 8, None), (7, 1, 7)])
def test_advice_is_taken_by_training(tiny: Config, rows: int, microbatches: int, parts: int | None):
    """Half of the activations would fit; a batch must divide by its microbatches."""
    tiny.data.global_batch_size, tiny.train.microbatches, tiny.model.remat = rows, microbatches, "full"
    said = advice(_report(device_batch_size=rows, chips=1), tiny, 1, 1)
    mesh = make_mesh(ParallelConfig(), jax.devices()[:1])
    batches = [int(n) for n in re.findall(r"global_batch_size=(\d+)", said)]
    numbers = [int(n) for n in re.findall(r"microbatches=(\d+)", said)]
    assert batches == ([rows // parts] if parts else [])
    assert numbers == ([microbatches * parts] if parts else [])
    for batch in batches:
        check_batch(mesh, batch, microbatches)
    for number in numbers:
        check_batch(mesh, rows, number)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--topology=v9:2x2",), ("no generation 'v9'", "v5e, v5p, v6e")),
        (("--topology=v5e:3x5",), ("v5e has no such slice", "16x16")),
        (("--topology=v5p:8x8",), ("v5p:", "3 numbers")),
        (("--topology=v5p:8x8x7",), ("no such slice", "multiples of 4")),
        (("--topology=v5e:4x4", "--slices=0"), ("--slices=0: must be at least 1",)),
        ((), ("--topology is missing",)),
        (("--topology=local",), ("JAX sees no GPU here (its backend is 'cpu')", "name a TPU pod")),
        (("--topology=local", "--slices=2"), ("--slices=2", "leave out --slices")),
        (("--topology=v5e:2x2", "--config.parallel.fsdp=3"), ("4 devices do not divide by 3",)),
        (("--topology=v5e:2x2", "--config.data.global_batch_size=6"), ("must be a multiple of data x fsdp = 4",)),
        (("--topology=v5e:2x2", "--config.data.path=/nowhere"), ("/nowhere", "no dataset.json there")),
    ],
)
@needs_libtpu
def test_bad_input(words: tuple[str, ...], said: tuple[str, ...]):
    assert_refused(run_door("rsfm_jax.compile", *SMALL, *words), *said)


def test_without_libtpu(repo: pathlib.Path, tmp_path: pathlib.Path):
    """An interpreter that does not see libtpu."""
    hide = (
        "import importlib.util as u, runpy, sys; find = u.find_spec; u.find_spec = lambda n, *a: None if n == 'libtpu' else find(n, *a); "
    )
    run = "sys.argv[0] = 'compile'; runpy.run_module('rsfm_jax.compile', run_name='__main__')"
    words = [sys.executable, "-c", hide + run, *SMALL, "--topology=v5e:2x2"]
    done = subprocess.run(words, cwd=repo, capture_output=True, text=True, check=False, env=os.environ)
    assert_refused(done, "libtpu", "is not installed", "pip install")
