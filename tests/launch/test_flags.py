"""The recommended compiler flags: the compilers know them, each has a reason, and the env file can name a chip."""

import importlib.util
import os
import pathlib
import re
import subprocess
import sys

import pytest

from tests.launch.scripted import LAUNCH, printed_commands, run_script, write_env

CHIPS = {"v5e": "v5e:2x2", "v5p": "v5p:2x2x1", "v6e": "v6e:2x2"}
COMPILE = """
import sys
from rsfm_jax.compile.topology import parse_topology, pod_devices, prepare_compiler
prepare_compiler()
import jax
place = jax.sharding.SingleDeviceSharding(pod_devices(parse_topology(sys.argv[1], 1))[0])
jax.jit(lambda x: x @ x).lower(jax.ShapeDtypeStruct((256, 256), "float32", sharding=place)).compile()
print("compiled")
"""
needs_libtpu = pytest.mark.skipif(importlib.util.find_spec("libtpu") is None, reason="libtpu, the TPU compiler, is not installed")


def flags(chip: str) -> list[tuple[str, str]]:
    """Flags and reasons."""
    lines = (LAUNCH / "flags" / chip).read_text().splitlines()
    found = [re.fullmatch(r"(--\S+)\s+# (.+)", line) for line in lines if not line.startswith("#")]
    assert all(found), lines
    return [(match[1], match[2]) for match in found if match]


def compiled(chip: str, words: str) -> subprocess.CompletedProcess[str]:
    """A small program through the TPU compiler."""
    command = [sys.executable, "-c", COMPILE, CHIPS[chip]]
    return subprocess.run(command, env=os.environ | {"LIBTPU_INIT_ARGS": words}, capture_output=True, text=True, check=False)


@needs_libtpu
@pytest.mark.parametrize("chip", CHIPS)
def test_the_tpu_compiler_knows_them(chip: str):
    words = " ".join(flag for flag, _ in flags(chip))
    assert words
    done = compiled(chip, words)
    assert (done.returncode, done.stdout) == (0, "compiled\n"), done.stderr


@needs_libtpu
def test_the_tpu_compiler_ends_at_a_flag_that_it_does_not_know():
    done = compiled("v6e", flags("v6e")[0][0].replace("--xla_", "--xla_no_"))
    assert done.returncode != 0
    assert "compiled" not in done.stdout
    assert "xla_no_" in done.stderr


@pytest.mark.parametrize(("word", "known"), [("", True), ("_not", False)])
def test_xla_knows_those_for_gpus(word: str, known: bool):
    words = " ".join(flag.replace("=", f"{word}=", 1) for flag, _ in flags("gpu"))
    run = [sys.executable, "-c", "import jax; print(jax.numpy.ones(2).sum())"]
    done = subprocess.run(run, env=os.environ | {"XLA_FLAGS": words}, capture_output=True, text=True, check=False)
    assert (done.returncode == 0) == known, done.stderr
    assert ("XLA_FLAGS" in done.stderr) != known


def test_every_flag_has_a_reason_and_every_chip_a_file():
    assert {file.name for file in (LAUNCH / "flags").iterdir()} == {*CHIPS, "gpu"}
    for chip in (*CHIPS, "gpu"):
        assert all(len(reason) > 20 for _, reason in flags(chip))


def test_the_env_file_names_a_chip(tmp_path: pathlib.Path):
    file = write_env(tmp_path)
    file.write_text(file.read_text() + "LIBTPU_INIT_ARGS=$(recommended v5p)\n")
    done = run_script("tpu.sh", "train", "--dry-run", f"--env={file}")
    assert done.returncode == 0, done.stderr
    wanted = " ".join(flag for flag, _ in flags("v5p"))
    assert any(f"LIBTPU_INIT_ARGS={wanted}" in " ".join(command) for command in printed_commands(done.stdout))


def test_a_chip_that_has_no_file(tmp_path: pathlib.Path):
    file = write_env(tmp_path)
    file.write_text(file.read_text() + "LIBTPU_INIT_ARGS=$(recommended v7)\n")
    done = run_script("tpu.sh", "train", "--dry-run", f"--env={file}")
    assert done.returncode == 2
    assert "recommended v7: there is no" in done.stderr
