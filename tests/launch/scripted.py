"""The scripts of launch/ run as a user runs them, with stand-ins on PATH for programs that are not ours: gcloud, kubectl, docker, Slurm."""

from collections.abc import Iterator
import json
import os
import pathlib
import shlex
import subprocess
import sys

REPO = pathlib.Path(__file__).resolve().parents[2]
LAUNCH = REPO / "launch"

VALUES = {
    "RUN": "run-1",
    "CONFIG": "configs/a2mae.py:vit_l",
    "BUCKET": "/proc",
    "WORKDIR": "/proc/runs/run-1",
    "DATA": "/proc/data/run1",
    "OVERRIDES": ["--config.train.steps=7", "--config.data.layouts=('a b', \"c\")"],
    "IMAGE": "us-docker.pkg.dev/project-1/images/rsfm:1",
    "XLA_FLAGS": "",
    "LIBTPU_INIT_ARGS": "--xla_tpu_one=true --xla_tpu_two=8",
    "PROJECT": "project-1",
    "ZONE": "us-east5-b",
    "ACCELERATOR_TYPE": "v6e-16",
    "RUNTIME_VERSION": "v2-alpha-tpuv6e",
    "SLICES": "1",
    "CAPACITY": "spot",
    "CREATE_FLAGS": ["--service-account=trainer@project-1.iam.gserviceaccount.com"],
    "POLL_S": "0",
    "PROGRESS_S": "1000",
    "MAX_RECREATIONS": "2",
    "MAX_INTERRUPTIONS": "2",
    "MAX_CRASHES": "1",
    "MAX_CRASHES_IN_ALL": "100",
    "ON_STOP": "delete",
    "KUBE_CONTEXT": "gke_project-1_us-east5_cluster",
    "NAMESPACE": "training",
    "CLAIM": "runs",
    "SERVICE_ACCOUNT": "trainer",
    "KUEUE_QUEUE": "rsfm",
    "TPU_ACCELERATOR": "tpu-v6e-slice",
    "TPU_TOPOLOGY": "4x4",
    "CHIPS_PER_HOST": "4",
    "MAX_RESTARTS": "50",
    "PYTHON": sys.executable,
    "NODES": "2",
    "GPUS_PER_NODE": "4",
    "CPUS_PER_TASK": "8",
    "TIME_LIMIT": "12:00:00",
    "MAX_REQUEUES": "3",
    "SBATCH_FLAGS": ["--partition=gpu"],
}


def write_env(folder: pathlib.Path, **changes: str | list[str] | None) -> pathlib.Path:
    """Writes a complete env file with some values changed, or left out where None."""
    file = folder / "run.env"
    lines = []
    for name, value in (VALUES | changes).items():
        if isinstance(value, list):
            lines.append(f"{name}=({shlex.join(value)})")
        elif value is not None:
            lines.append(f"{name}={shlex.quote(value)}")
    file.write_text("\n".join(lines) + "\n")
    return file


def write_tool(bin_folder: pathlib.Path, name: str, code: str) -> None:
    """Puts a stand-in on the path: Python code that finds its words in ``sys.argv[1:]`` and appends them to calls.jsonl first."""
    bin_folder.mkdir(exist_ok=True)
    log = bin_folder / "calls.jsonl"
    head = f"#!{sys.executable} -ES\nimport json, sys\nwith open({str(log)!r}, 'a') as log:\n    print(json.dumps(sys.argv), file=log)\n"
    (bin_folder / name).write_text(head + code)
    (bin_folder / name).chmod(0o755)


def calls(bin_folder: pathlib.Path, name: str | None = None) -> list[list[str]]:
    """The calls so far of one stand-in, or of all: the words after its name."""
    log = bin_folder / "calls.jsonl"
    found = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
    return [words for path, *words in found if name in (None, pathlib.Path(path).name)]


def run_script(
    script: str | pathlib.Path,
    *words: str | pathlib.Path,
    bin_folder: pathlib.Path | None = None,
    env: dict[str, str] | None = None,
    timeout_s: float = 60,
) -> subprocess.CompletedProcess[str]:
    """Runs a script of launch/ from the repository's root."""
    path = os.environ["PATH"]
    environment = os.environ | {"PATH": f"{bin_folder}:{path}" if bin_folder else path} | (env or {})
    command = [str(LAUNCH / script), *map(str, words)]
    return subprocess.run(command, cwd=REPO, env=environment, capture_output=True, text=True, timeout=timeout_s, check=False)


def printed_commands(text: str) -> Iterator[list[str]]:
    """Takes what --dry-run printed apart into the words of each command; one may go over several lines."""
    pending = ""
    for line in text.splitlines(keepends=True):
        pending += line
        try:
            words = shlex.split(pending, comments=True)
        except ValueError:  # a quotation that goes on in the next line
            continue
        pending = ""
        if words:
            yield words
    assert not pending
