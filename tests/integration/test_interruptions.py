"""One run, stopped in every way a run is stopped, against the same run left alone: bit for bit."""

import dataclasses
import pathlib
import shutil
import signal
import subprocess
import sys
import time

import pytest

from rsfm_jax.train.metrics import read_metrics
from tests.helpers import REPO, run_door, train_words

_PATIENCE_S = 300


@dataclasses.dataclass(frozen=True)
class Stopped:
    """What was seen of a run that was sent a signal."""

    code: int
    output: str
    workdir: pathlib.Path
    rows: int
    checkpoints: list[int]


def saved(workdir: pathlib.Path) -> list[int]:
    folder = workdir / "checkpoints"
    return sorted(int(entry.name) for entry in folder.iterdir() if entry.name.isdigit()) if folder.is_dir() else []


def train_until(row: int, number: signal.Signals, words: list[str], workdir: pathlib.Path, checkpoint: int = 0) -> Stopped:
    """Trains until a row of metrics and a checkpoint are there, then sends a signal."""
    child = subprocess.Popen(
        [sys.executable, "-m", "rsfm_jax.train", *words], cwd=REPO, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    give_up = time.monotonic() + _PATIENCE_S
    try:
        while child.poll() is None and time.monotonic() < give_up:
            if len(read_metrics(workdir)) >= row and max(saved(workdir), default=0) >= checkpoint:
                child.send_signal(number)
                break
            time.sleep(0.002)
        output, _ = child.communicate(timeout=_PATIENCE_S)
    finally:
        child.kill()
    return Stopped(child.returncode, output, workdir, len(read_metrics(workdir)), saved(workdir))


@pytest.fixture(scope="module")
def story(trained: pathlib.Path, tiny_path: pathlib.Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Stopped]:
    """Ctrl-C, then SIGTERM, then SIGKILL, then the end; ``trained`` is the run left alone."""
    workdir = tmp_path_factory.mktemp("stopped") / "run"
    words = train_words(tiny_path, workdir)
    story = {"ctrl_c": train_until(1, signal.SIGINT, words, workdir)}
    story["term"] = train_until(story["ctrl_c"].rows + 2, signal.SIGTERM, words, workdir)
    story["kill"] = train_until(story["term"].rows + 4, signal.SIGKILL, words, workdir, checkpoint=10)
    done = run_door("rsfm_jax.train", *words)
    story["end"] = Stopped(done.returncode, done.stdout + done.stderr, workdir, len(read_metrics(workdir)), saved(workdir))
    return story


def test_ctrl_c_saves_and_leaves_with_130(story: dict[str, Stopped]):
    stopped = story["ctrl_c"]
    assert stopped.code == 130, stopped.output
    assert "Traceback" not in stopped.output
    assert f"stopped at step {stopped.rows} of 40, saved; the same command continues there" in stopped.output
    assert stopped.checkpoints == [stopped.rows]


def test_a_preempted_run_saves_and_leaves_with_42(story: dict[str, Stopped]):
    stopped = story["term"]
    assert stopped.code == 42, stopped.output
    assert f"continuing at step {story['ctrl_c'].rows} of 40" in stopped.output
    assert stopped.checkpoints[-1] == stopped.rows > story["ctrl_c"].rows


def test_a_killed_run_leaves_its_last_checkpoint(story: dict[str, Stopped]):
    stopped = story["kill"]
    assert stopped.code == -signal.SIGKILL, stopped.output
    assert max(stopped.checkpoints) < 40
    assert f"continuing at step {max(stopped.checkpoints)} of 40" in story["end"].output


def test_losses_and_gradients_are_those_of_the_run_left_alone(story: dict[str, Stopped], trained: pathlib.Path):
    assert story["end"].code == 0, story["end"].output
    assert "finished 40 steps" in story["end"].output
    ours = read_metrics(story["end"].workdir)
    fields = ("step", "layout", "loss", "lr", "grad_norm", "slot_losses")
    assert [{name: row[name] for name in fields} for row in ours] == [{name: row[name] for name in fields} for row in read_metrics(trained)]


def test_a_finished_run_has_nothing_left_to_do(trained: pathlib.Path, tiny_path: pathlib.Path, tmp_path: pathlib.Path):
    workdir = shutil.copytree(trained, tmp_path / "run")
    done = run_door("rsfm_jax.train", *train_words(tiny_path, workdir))
    assert done.returncode == 0, done.stderr
    assert read_metrics(workdir) == read_metrics(trained)
