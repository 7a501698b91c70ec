"""Runs of several processes on this machine, as a pod's hosts would run them: what they compute, and how they stop together."""

from collections.abc import Iterator
import contextlib
import dataclasses
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest

from rsfm_jax.train.metrics import read_metrics
from tests.helpers import REPO, assert_refused, run_door, train_words

_PATIENCE_S = 300
ONE_DEVICE = os.environ["XLA_FLAGS"].replace("device_count=8", "device_count=1")


@dataclasses.dataclass(frozen=True)
class Ended:
    """Exit codes and outputs of all processes."""

    codes: list[int]
    outputs: list[str]


def free_address() -> str:
    """An address of this machine where nothing answers."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{free.getsockname()[1]}"


@contextlib.contextmanager
def processes(words: list[list[str]]) -> Iterator[list[subprocess.Popen[str]]]:
    """Starts a process of one device for each list of words; none outlives the block."""
    address = free_address()
    children = []
    for i, own in enumerate(words):
        place = [f"--coordinator={address}", f"--process_count={len(words)}", f"--process_index={i}"]
        children.append(
            subprocess.Popen(
                [sys.executable, "-m", "rsfm_jax.train", *own, *place],
                cwd=REPO,
                text=True,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env=os.environ | {"XLA_FLAGS": ONE_DEVICE},
            )
        )
    try:
        yield children
    finally:
        for child in children:
            child.kill()


def ended(children: list[subprocess.Popen[str]]) -> Ended:
    outputs = [child.communicate(timeout=_PATIENCE_S)[0] for child in children]
    return Ended([child.returncode for child in children], outputs)


@dataclasses.dataclass(frozen=True)
class Story:
    """One process; in another folder two, stopped by a signal to the second, and four that go on there."""

    one: pathlib.Path
    two: Ended
    stopped_at: int
    saved: bool
    four: Ended
    workdir: pathlib.Path


@pytest.fixture(scope="module")
def story(tiny_path: pathlib.Path, tmp_path_factory: pytest.TempPathFactory) -> Story:
    folder = tmp_path_factory.mktemp("processes")
    alone, workdir = folder / "one", folder / "run"
    with processes([train_words(tiny_path, alone)]) as children:
        done = ended(children)
    assert done.codes == [0], done.outputs
    words = train_words(tiny_path, workdir)
    with processes([words] * 2) as children:
        give_up = time.monotonic() + _PATIENCE_S
        while len(read_metrics(workdir)) < 3 and children[0].poll() is None and time.monotonic() < give_up:
            time.sleep(0.01)
        children[1].send_signal(signal.SIGTERM)
        two = ended(children)
    stopped_at = len(read_metrics(workdir))
    saved = (workdir / "checkpoints" / str(stopped_at)).is_dir()
    with processes([words] * 4) as children:
        four = ended(children)
    return Story(alone, two, stopped_at, saved, four, workdir)


def test_a_signal_to_one_process_stops_all_after_the_same_step(story: Story):
    assert story.two.codes == [42, 42], story.two.outputs
    assert 3 <= story.stopped_at < 40
    assert f"stopped at step {story.stopped_at} of 40, saved" in story.two.outputs[0]
    assert story.saved


def test_more_processes_go_on_where_fewer_stopped(story: Story):
    assert story.four.codes == [0] * 4, story.four.outputs
    assert f"continuing at step {story.stopped_at} of 40" in story.four.outputs[0]
    assert "4 device(s) of 4 processes" in story.four.outputs[0]
    assert [row["step"] for row in read_metrics(story.workdir)] == list(range(1, 41))


def test_several_processes_compute_what_one_computes(story: Story):
    ours, theirs = read_metrics(story.workdir), read_metrics(story.one)
    for name in ("loss", "grad_norm", "lr"):
        np.testing.assert_allclose([row[name] for row in ours], [row[name] for row in theirs], rtol=1e-5)
    assert [row["layout"] for row in ours] == [row["layout"] for row in theirs]


def test_only_the_first_process_speaks(story: Story):
    assert all("step " not in output and "layouts" not in output for output in (*story.two.outputs[1:], *story.four.outputs[1:]))


def test_processes_given_different_configs_all_refuse(tiny_path: pathlib.Path, tmp_path: pathlib.Path):
    words = train_words(tiny_path, tmp_path / "run")
    with processes([words, [*words, "--config.mask.ratio=0.5"]]) as children:
        both = ended(children)
    assert both.codes == [2, 2], both.outputs
    assert all("not the same in process 0 and in process 1" in output for output in both.outputs)
    assert not (tmp_path / "run").exists()


def test_a_folder_that_the_first_refuses_is_refused_by_all(tiny_path: pathlib.Path, tmp_path: pathlib.Path):
    (tmp_path / "notes.txt").write_text("not a run")
    with processes([train_words(tiny_path, tmp_path)] * 2) as children:
        both = ended(children)
    assert both.codes == [2, 2], both.outputs
    assert "holds something that is not a run" in both.outputs[0]
    assert "process 0 refused" in both.outputs[1]


@pytest.mark.parametrize(
    ("index", "message"),
    [(1, "process 0 does not answer in 3 s"), (0, "not all of 2 processes came in 3 s; start those with --process_index=1 to 1")],
)
def test_processes_that_do_not_come_are_waited_for_so_long(tiny_path: pathlib.Path, tmp_path: pathlib.Path, index: int, message: str):
    place = [f"--coordinator={free_address()}", "--process_count=2", f"--process_index={index}", "--join_timeout_s=3"]
    done = run_door("rsfm_jax.train", *train_words(tiny_path, tmp_path / "run"), *place)
    assert_refused(done, place[0], message, "--join_timeout_s=N waits longer")
    assert not (tmp_path / "run").exists()


def test_a_cluster_whose_processes_do_not_come_counts_as_a_crash(
    tiny_path: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
):
    """Exit code 1, which babysitters try again: the cluster gave the address, nobody typed it."""
    one_of_two = {"JOB_ID": "70000", "NTASKS": "2", "PROCID": "1", "LOCALID": "1", "STEP_NODELIST": "127.0.0.1"}
    for name, value in one_of_two.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    done = run_door("rsfm_jax.train", *train_words(tiny_path, tmp_path / "run"), "--cluster", "--join_timeout_s=3")
    assert (done.returncode, done.stderr) == (1, "error: --cluster: not all processes came in 3 s; --join_timeout_s=N waits longer\n")


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--process_count=2"], "--process_count and --process_index need --coordinator=HOST:PORT"),
        (["--coordinator=127.0.0.1"], "--coordinator=127.0.0.1: must be HOST:PORT"),
        (["--coordinator=127.0.0.1:99999", "--process_count=2", "--process_index=0"], "--coordinator=127.0.0.1:99999: must be HOST:PORT"),
        (["--coordinator=127.0.0.1:8476", "--process_count=2"], "needs --process_count (given: 2) and --process_index (given: None)"),
        (["--coordinator=127.0.0.1:8476", "--process_count=2", "--process_index=2"], "--process_index (given: 2) from 0 to one less"),
        (["--coordinator=127.0.0.1:8476", "--cluster"], "leave out --coordinator"),
        (["--cluster"], "--cluster: JAX finds no cluster here"),
        (["--join_timeout_s=0"], "--join_timeout_s=0: must be at least 1"),
    ],
)
def test_wrong_flags_are_refused(tiny_path: pathlib.Path, tmp_path: pathlib.Path, more: list[str], message: str):
    done = run_door("rsfm_jax.train", *train_words(tiny_path, tmp_path / "run"), *more)
    assert done.returncode == 2, done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr
