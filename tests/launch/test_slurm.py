"""The Slurm job with stand-ins for sbatch, srun and scontrol; once with real training processes."""

import os
import pathlib
import signal
import subprocess
import sys
import time

from etils import epath
import pytest

from rsfm_jax.train.metrics import read_metrics
from tests.helpers import TINY_CONFIG
from tests.launch.scripted import LAUNCH, REPO, VALUES, calls, run_script, write_env, write_tool

_PATIENCE_S = 300
_ONE_DEVICE = os.environ["XLA_FLAGS"].replace("device_count=8", "device_count=1")
JOB = {"SLURM_JOB_ID": "4711"}

# As srun: the command as often as there are tasks, SIGTERM to all of them, the highest exit code.
_SRUN = """
import os, pathlib, signal, subprocess
words = sys.argv[1:]
while words[0].startswith("--"):
    del words[0]
step = {"SLURM_NTASKS": "2", "SLURM_STEP_NODELIST": "127.0.0.1", "SLURM_STEP_NUM_NODES": "1"}
tasks = [subprocess.Popen(words, env=os.environ | step | {"SLURM_PROCID": str(i), "SLURM_LOCALID": str(i)}) for i in range(2)]
signal.signal(signal.SIGTERM, lambda *_: [task.send_signal(signal.SIGTERM) for task in tasks])
pathlib.Path(__file__).with_name("srun.pid").write_text(str(os.getpid()))
sys.exit(max(task.wait() for task in tasks))
"""


def job(folder: pathlib.Path, code: int, env: dict[str, str] | None = None, **changes: str) -> subprocess.CompletedProcess[str]:
    """Runs the job where training ends with an exit code."""
    write_tool(folder / "bin", "srun", f"sys.exit({code})")
    if not (folder / "bin" / "scontrol").exists():
        write_tool(folder / "bin", "scontrol", "")
    return run_script("slurm.sbatch", f"--env={write_env(folder, **changes)}", bin_folder=folder / "bin", env=JOB | (env or {}))


def test_exit_42_queues_the_job_anew_once(tmp_path: pathlib.Path):
    done = job(tmp_path, 42)
    assert calls(tmp_path / "bin", "scontrol") == [["requeue", "4711"]]
    assert done.returncode == 42


@pytest.mark.parametrize("code", [0, 1, 2, 130, 143])
def test_any_other_exit_code_is_the_job_s(tmp_path: pathlib.Path, code: int):
    assert job(tmp_path, code).returncode == code
    assert calls(tmp_path / "bin", "scontrol") == []


def test_requeues_are_bounded_by_slurm_s_own_count(tmp_path: pathlib.Path):
    job(tmp_path, 42, {"SLURM_RESTART_COUNT": "2"}, MAX_REQUEUES="3")
    assert len(calls(tmp_path / "bin", "scontrol")) == 1
    done = job(tmp_path, 42, {"SLURM_RESTART_COUNT": "3"}, MAX_REQUEUES="3")
    assert len(calls(tmp_path / "bin", "scontrol")) == 1
    assert done.returncode == 42
    assert "MAX_REQUEUES=3 is used up" in done.stdout


def test_a_requeue_that_slurm_refuses_leaves_exit_42(tmp_path: pathlib.Path):
    write_tool(tmp_path / "bin", "scontrol", "sys.exit(1)")
    done = job(tmp_path, 42)
    assert done.returncode == 42
    assert "Slurm may have done so itself" in done.stdout


def test_srun_starts_the_training_command(tmp_path: pathlib.Path):
    job(tmp_path, 0)
    ((*flags,),) = calls(tmp_path / "bin", "srun")
    start = flags.index(sys.executable)
    assert flags[:start] == ["--cpus-per-task=8", "--kill-on-bad-exit=0", "--wait=600"]
    assert flags[start + 1 : start + 5] == ["-m", "rsfm_jax.train", "--cluster", "--config=configs/a2mae.py:vit_l"]
    assert flags[-2:] == VALUES["OVERRIDES"]


def test_the_job_is_submitted_with_a_warning_before_its_end(tmp_path: pathlib.Path):
    write_tool(tmp_path / "bin", "sbatch", "")
    env_file = write_env(tmp_path)
    done = run_script("slurm.sh", f"--env={env_file}", bin_folder=tmp_path / "bin")
    assert done.returncode == 0, done.stderr
    ((*words,),) = calls(tmp_path / "bin", "sbatch")
    assert words[-3:] == ["--partition=gpu", str(LAUNCH / "slurm.sbatch"), f"--env={env_file}"]
    assert set(words) >= {"--job-name=run-1", "--nodes=2", "--ntasks-per-node=4", "--gpus-per-node=4", "--time=12:00:00", f"--chdir={REPO}"}
    asked = [line.removeprefix("#SBATCH ") for line in (LAUNCH / "slurm.sbatch").read_text().splitlines() if line.startswith("#SBATCH")]
    assert {"--signal=TERM@300", "--requeue"} <= set(asked)


def test_two_real_processes_save_when_slurm_warns(tmp_path: pathlib.Path, tiny_path: pathlib.Path):
    write_tool(tmp_path / "bin", "srun", _SRUN)
    write_tool(tmp_path / "bin", "scontrol", "")
    workdir = epath.Path(tmp_path / "run")
    where = {"CONFIG": str(TINY_CONFIG), "WORKDIR": str(workdir), "DATA": str(tiny_path)}
    env_file = write_env(tmp_path, **where, OVERRIDES=["--config.train.steps=100000"], XLA_FLAGS=_ONE_DEVICE)
    command = [str(LAUNCH / "slurm.sbatch"), f"--env={env_file}"]
    environment = os.environ | JOB | {"PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}"}
    job = subprocess.Popen(command, cwd=REPO, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    give_up = time.monotonic() + _PATIENCE_S
    while len(read_metrics(workdir)) < 3 and job.poll() is None and time.monotonic() < give_up:
        time.sleep(0.1)
    os.kill(int((tmp_path / "bin" / "srun.pid").read_text()), signal.SIGTERM)
    said, _ = job.communicate(timeout=_PATIENCE_S)
    assert job.returncode == 42, said
    assert calls(tmp_path / "bin", "scontrol") == [["requeue", "4711"]]
    assert "2 device(s) of 2 processes" in said
    assert f"stopped at step {len(read_metrics(workdir))} of 100000, saved" in said
