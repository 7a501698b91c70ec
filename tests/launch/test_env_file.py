"""The one small file: what is missing in it is named, and --dry-run does nothing."""

import pathlib
import re

import pytest

from tests.launch.scripted import LAUNCH, VALUES, calls, printed_commands, run_script, write_env, write_tool

TPU = ("PROJECT", "ZONE", "ACCELERATOR_TYPE", "RUNTIME_VERSION", "IMAGE", "SLICES", "CAPACITY")
BABYSITTER = ("POLL_S", "PROGRESS_S", "MAX_RECREATIONS", "MAX_INTERRUPTIONS", "MAX_CRASHES", "ON_STOP")
GKE = ("KUBE_CONTEXT", "NAMESPACE", "SERVICE_ACCOUNT", "KUEUE_QUEUE", "TPU_ACCELERATOR", "TPU_TOPOLOGY", "CHIPS_PER_HOST", "MAX_RESTARTS")
RUN = ("RUN", "CONFIG", "WORKDIR", "DATA")
NEEDS = {
    ("tpu.sh", "create"): RUN + TPU,
    ("tpu_babysit.sh",): RUN + TPU + BABYSITTER,
    ("gke.sh", "apply"): (*RUN, *GKE, "IMAGE", "SLICES", "CAPACITY"),
    ("slurm.sh",): (*RUN, "PYTHON", "NODES", "GPUS_PER_NODE", "CPUS_PER_TASK", "TIME_LIMIT", "MAX_REQUEUES"),
    ("slurm.sbatch",): (*RUN, "PYTHON", "CPUS_PER_TASK", "MAX_REQUEUES"),
}
COMMANDS = [*NEEDS, ("gke.sh", "queue"), *(("tpu.sh", verb) for verb in ("state", "train", "stop", "delete"))]
COMMANDS += [("gke.sh", verb) for verb in ("state", "logs", "delete")]
OUTSIDE = ("gcloud", "kubectl", "sbatch", "srun", "scontrol", "ssh", "docker", "sudo")


@pytest.fixture
def bin_folder(tmp_path: pathlib.Path) -> pathlib.Path:
    for name in OUTSIDE:
        write_tool(tmp_path / "bin", name, "sys.exit(99)")
    return tmp_path / "bin"


@pytest.mark.parametrize("command", NEEDS, ids=" ".join)
def test_a_missing_or_empty_value_is_named_with_its_file(tmp_path: pathlib.Path, bin_folder: pathlib.Path, command: tuple[str, ...]):
    for name in NEEDS[command]:
        for value in ("", None) if name == NEEDS[command][0] else ("",):
            file = write_env(tmp_path, **{name: value})
            done = run_script(*command, f"--env={file}", bin_folder=bin_folder)
            assert done.returncode == 2, (name, done.stdout, done.stderr)
            assert done.stderr == f"error: {file}: {name} is missing or empty\n"
    assert calls(bin_folder) == []


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_a_dry_run_prints_and_calls_nothing(tmp_path: pathlib.Path, bin_folder: pathlib.Path, command: tuple[str, ...]):
    done = run_script(*command, "--dry-run", f"--env={write_env(tmp_path)}", bin_folder=bin_folder)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert any(f"{tool} " in done.stdout for tool in OUTSIDE)
    assert calls(bin_folder) == []


@pytest.mark.parametrize("command", [("tpu_babysit.sh",), ("gke.sh", "apply"), ("slurm.sh",)], ids=" ".join)
def test_what_is_not_needed_may_be_left_out(tmp_path: pathlib.Path, command: tuple[str, ...]):
    optional = ("XLA_FLAGS", "LIBTPU_INIT_ARGS", "OVERRIDES", "CREATE_FLAGS", "SBATCH_FLAGS")
    done = run_script(*command, "--dry-run", f"--env={write_env(tmp_path, **dict.fromkeys(optional))}")
    assert (done.returncode, done.stderr) == (0, "")


def test_the_file_as_it_comes_is_refused_until_it_is_filled_in():
    done = run_script("tpu.sh", "create")
    assert (done.returncode, done.stderr) == (2, f"error: {LAUNCH / 'run.env'}: WORKDIR is missing or empty\n")


def test_the_file_as_it_comes_names_every_value_that_the_tests_set():
    assert set(re.findall(r"^([A-Z_]+)=", (LAUNCH / "run.env").read_text(), re.MULTILINE)) == VALUES.keys()


def test_nothing_of_the_file_comes_from_the_environment(tmp_path: pathlib.Path):
    file = write_env(tmp_path, PROJECT=None)
    done = run_script("tpu.sh", "create", "--dry-run", f"--env={file}", env={"PROJECT": "another", "OVERRIDES": "x"})
    assert (done.returncode, done.stderr) == (2, f"error: {file}: PROJECT is missing or empty\n")


@pytest.mark.parametrize(
    ("command", "changes", "message"),
    [
        (("tpu.sh", "create"), {"RUN": "Run_1"}, "RUN='Run_1': must be lower-case letters, digits and hyphens"),
        (("tpu.sh", "create"), {"RUN": "r" * 41}, "40 at most"),
        (("tpu.sh", "create"), {"SLICES": "two"}, "SLICES='two': must be a whole number"),
        (("tpu.sh", "create"), {"SLICES": "0"}, "SLICES='0': must be 1 or more"),
        (("tpu.sh", "create"), {"CAPACITY": "preemptible"}, "CAPACITY='preemptible': must be one of spot reserved on-demand"),
        (
            ("tpu.sh", "train"),
            {"WORKDIR": "gs://bucket/runs/run-1"},
            "WORKDIR='gs://bucket/runs/run-1' DATA='/proc/data/run1': must be folders",
        ),
        (("gke.sh", "apply"), {"DATA": "gs://bucket/data"}, "mount a bucket"),
        (("tpu_babysit.sh",), {"MAX_CRASHES": "08"}, "MAX_CRASHES='08': must be a whole number"),
        (("gke.sh", "apply"), {"TPU_TOPOLOGY": "16"}, "TPU_TOPOLOGY='16': must be like 4x4 or 2x2x4"),
        (("gke.sh", "apply"), {"TPU_TOPOLOGY": "3x3"}, "TPU_TOPOLOGY has 9 chips, not a multiple of CHIPS_PER_HOST=4"),
        (("gke.sh", "apply"), {"CLAIM": ""}, "CLAIM is missing or empty"),
        (("tpu.sh", "train"), {"WORKDIR": "/runs/run-1"}, "must lie in BUCKET='/proc', a folder; containers see nothing else of the host"),
        (("gke.sh", "apply"), {"DATA": "/procession/data"}, "must lie in BUCKET"),
    ],
)
def test_a_value_that_cannot_be_right_is_refused(tmp_path: pathlib.Path, command: tuple[str, ...], changes: dict[str, str], message: str):
    done = run_script(*command, "--dry-run", f"--env={write_env(tmp_path, **changes)}")
    assert done.returncode == 2
    assert message in done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["create", "--dryrun"], "unexpected word '--dryrun'"),
        (["create", "delete"], "unexpected word 'delete'"),
        ([], "say what to do: one of create state train stop delete"),
        (["create", "--env=nowhere.env"], "nowhere.env: no such file"),
    ],
)
def test_wrong_words_are_refused(words: list[str], message: str):
    done = run_script("tpu.sh", *words)
    assert done.returncode == 2
    assert message in done.stderr


@pytest.mark.parametrize("script", ["tpu.sh", "tpu_babysit.sh", "gke.sh", "slurm.sh", "slurm.sbatch"])
def test_help_says_what_there_is(script: str):
    done = run_script(script, "--help")
    assert done.returncode == 0
    assert f"{script} " in done.stdout
    assert "--dry-run" in done.stdout
    assert "#" not in done.stdout


def test_a_printed_command_has_the_words_of_the_real_one(tmp_path: pathlib.Path):
    done = run_script("slurm.sbatch", "--dry-run", f"--env={write_env(tmp_path)}")
    (srun, requeue) = printed_commands(done.stdout)
    assert srun[-2:] == VALUES["OVERRIDES"]
    assert requeue == ["scontrol", "requeue", "$SLURM_JOB_ID"]
