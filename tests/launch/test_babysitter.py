"""The babysitter against a gcloud that answers from a script: each test is the story of one TPU, call by call."""

import json
import os
import pathlib
import shlex
import signal
import subprocess
import time

import pytest

from tests.launch.scripted import LAUNCH, VALUES, calls, run_script, write_env, write_tool

# Answers are (call expected, exit code, standard output, standard error).
Answer = tuple[str, int, str, str]
MISSING: Answer = ("describe", 1, "", "ERROR: (gcloud.compute.tpus.queued-resources.describe) NOT_FOUND: Resource 'run-1' was not found")
OFFLINE: Answer = ("describe", 1, "", "ERROR: (gcloud.compute.tpus.queued-resources.describe) There was a problem refreshing your tokens")
CREATED: Answer = ("create", 0, "", "Create request issued for: [run-1]")
DELETED: Answer = ("delete", 0, "", "Deleted queued resource [run-1]")
STARTED: Answer = ("start", 0, "", "")
STOPPED: Answer = ("stop", 0, "", "")

_GCLOUD = """
import pathlib
script = pathlib.Path(__file__).with_name("answers.json")
words = " ".join(sys.argv[1:])
kinds = {"describe": "queued-resources describe", "create": "queued-resources create", "delete": "queued-resources delete",
         "start": "docker run --detach", "follow": "docker logs --follow", "stop": "docker stop"}
(kind,) = [kind for kind, mark in kinds.items() if mark in words]
answers = json.loads(script.read_text())
expected, code, out, err = answers.pop(0) if answers else ("nothing more", 0, "", "")
if kind != expected:
    sys.exit(f"the story has {expected}, gcloud was called for {kind}")
script.write_text(json.dumps(answers))
print(out)
print(err, file=sys.stderr)
sys.exit(code)
"""

_ENDLESS_GCLOUD = """
import pathlib, time
if "describe" in sys.argv:
    print("ACTIVE")
if "docker logs" in " ".join(sys.argv):
    pathlib.Path(__file__).with_name("following").touch()
    time.sleep(60)
"""


def state(name: str, message: str = "") -> Answer:
    return ("describe", 0, f"{name}\t{message}", "")


def followed(code: int) -> Answer:
    return ("follow", code, "", "")


def refused(message: str) -> Answer:
    return ("create", 1, "", f"ERROR: (gcloud.compute.tpus.queued-resources.create) {message}")


def told(folder: pathlib.Path, story: list[Answer], **changes: str) -> subprocess.CompletedProcess[str]:
    """Runs the babysitter through a story, which must be told to its end."""
    write_tool(folder / "bin", "gcloud", _GCLOUD)
    answers = folder / "bin" / "answers.json"
    answers.write_text(json.dumps(story))
    done = run_script("tpu_babysit.sh", f"--env={write_env(folder, **changes)}", bin_folder=folder / "bin")
    assert "the story has" not in done.stderr, done.stderr + done.stdout
    assert json.loads(answers.read_text()) == [], done.stderr + done.stdout
    return done


def test_a_run_that_is_never_disturbed(tmp_path: pathlib.Path):
    waiting = [state(name) for name in ("CREATING", "ACCEPTED", "WAITING_FOR_RESOURCES", "WAITING_FOR_RESOURCES", "PROVISIONING")]
    done = told(tmp_path, [MISSING, CREATED, *waiting, state("ACTIVE"), STARTED, followed(0), state("ACTIVE"), DELETED])
    assert done.returncode == 0
    assert done.stdout.count("WAITING_FOR_RESOURCES") == 1


def test_a_preempted_tpu_is_deleted_and_made_anew(tmp_path: pathlib.Path):
    first = [MISSING, CREATED, state("ACTIVE"), STARTED, followed(42), STOPPED]
    taken = [state("SUSPENDING"), state("SUSPENDED"), DELETED]
    second = [MISSING, CREATED, state("ACTIVE"), STARTED, followed(0), state("ACTIVE"), DELETED]
    done = told(tmp_path, [*first, *taken, *second])
    assert done.returncode == 0
    creates = [words for words in calls(tmp_path / "bin", "gcloud") if "create" in words]
    assert len(creates) == 2
    assert creates[0] == creates[1]


def test_training_that_was_stopped_goes_on_at_once_where_the_tpu_stays(tmp_path: pathlib.Path):
    again = [state("ACTIVE"), STARTED, followed(0), state("ACTIVE"), DELETED]
    assert told(tmp_path, [state("ACTIVE"), STARTED, followed(42), STOPPED, *again]).returncode == 0


def test_a_broken_ssh_does_not_stop_training(tmp_path: pathlib.Path):
    story = [state("ACTIVE"), STARTED, followed(255), state("ACTIVE"), STARTED, followed(0), state("ACTIVE"), DELETED]
    assert told(tmp_path, story).returncode == 0


def test_a_start_that_fails_is_not_followed(tmp_path: pathlib.Path):
    unreachable: Answer = ("start", 255, "", "")
    story = [state("ACTIVE"), unreachable, state("ACTIVE"), STARTED, followed(0), state("ACTIVE"), DELETED]
    assert told(tmp_path, story).returncode == 0


def test_a_tpu_that_failed_is_made_anew_but_not_for_ever(tmp_path: pathlib.Path):
    once = [MISSING, CREATED, state("FAILED", "an internal error"), DELETED]
    done = told(tmp_path, [*once * 3, MISSING, MISSING], MAX_RECREATIONS="2")
    assert done.returncode == 1
    assert "given up: recreated 2 times (MAX_RECREATIONS)" in done.stdout
    assert "an internal error" in done.stdout


def test_a_tpu_that_failed_by_quota_is_not_asked_for_again(tmp_path: pathlib.Path):
    message = "Quota limit 'TPUV6EPreemptiblePerProjectPerZoneForTPUAPI' has been exceeded"
    done = told(tmp_path, [MISSING, CREATED, state("FAILED", message), DELETED])
    assert done.returncode == 1
    assert message in done.stdout


@pytest.mark.parametrize(
    "message",
    [
        "RESOURCE_EXHAUSTED: Quota limit 'TPUV6EPerProjectPerZoneForTPUAPI' has been exceeded. Limit: 0 in zone us-east5-b.",
        "PERMISSION_DENIED: Permission 'tpu.queuedresources.create' denied on resource (or the connection is not allowed)",
        "INVALID_ARGUMENT: Cloud TPU received an invalid argument. The accelerator type 'v6e-17' is not known",
    ],
)
def test_a_refused_create_ends_it_at_once(tmp_path: pathlib.Path, message: str):
    done = told(tmp_path, [MISSING, refused(message)])
    assert done.returncode == 1
    assert message in done.stdout


def test_a_create_that_was_not_answered_is_tried_again_but_not_for_ever(tmp_path: pathlib.Path):
    done = told(tmp_path, [*[MISSING, refused("UNAVAILABLE: try later")] * 3, MISSING, MISSING], MAX_RECREATIONS="2")
    assert done.returncode == 1
    assert "given up" in done.stdout


def test_bad_input_ends_it_and_gives_the_tpu_back(tmp_path: pathlib.Path):
    done = told(tmp_path, [state("ACTIVE"), STARTED, followed(2), state("ACTIVE"), DELETED])
    assert done.returncode == 2
    assert "training refused its input" in done.stdout


def test_the_tpu_can_be_kept(tmp_path: pathlib.Path):
    done = told(tmp_path, [state("ACTIVE"), STARTED, followed(2)], ON_STOP="keep")
    assert done.returncode == 2
    assert "the TPU is kept, and paid for" in done.stdout


def test_crashes_are_retried_but_not_for_ever(tmp_path: pathlib.Path):
    crash = [state("ACTIVE"), STARTED, followed(3), STOPPED]
    done = told(tmp_path, [*crash, *crash[:3], state("ACTIVE"), DELETED], MAX_CRASHES="1")
    assert done.returncode == 1
    assert "given up: MAX_CRASHES" in done.stdout


def test_crashes_are_forgotten_with_the_tpu_they_happened_on(tmp_path: pathlib.Path):
    crash = [state("ACTIVE"), STARTED, followed(3), STOPPED, state("SUSPENDED"), DELETED, MISSING, CREATED]
    ended = [state("ACTIVE"), STARTED, followed(0), state("ACTIVE"), DELETED]
    assert told(tmp_path, [*crash * 2, *ended], MAX_CRASHES="1").returncode == 0


def test_interruptions_are_bounded_too(tmp_path: pathlib.Path):
    stop = [state("ACTIVE"), STARTED, followed(42), STOPPED]
    done = told(tmp_path, [*stop * 2, *stop[:3], state("ACTIVE"), DELETED], MAX_INTERRUPTIONS="2")
    assert done.returncode == 1
    assert "given up: MAX_INTERRUPTIONS" in done.stdout


def test_progress_sets_the_counts_to_zero(tmp_path: pathlib.Path):
    crash = [state("ACTIVE"), STARTED, followed(3), STOPPED]
    taken = [state("SUSPENDED"), DELETED, MISSING, CREATED]
    ended = [state("ACTIVE"), STARTED, followed(0), state("ACTIVE"), DELETED]
    limits = {"PROGRESS_S": "0", "MAX_CRASHES": "1", "MAX_RECREATIONS": "1"}
    assert told(tmp_path, [*crash * 3, *(taken + crash) * 3, *ended], **limits).returncode == 0


@pytest.mark.parametrize("begins", [True, False])
def test_a_gcloud_that_fails_is_no_crash_and_stops_nothing(tmp_path: pathlib.Path, begins: bool):
    """It exits with 1, as a crash of training would: while a queued resource still says ACTIVE of a node that is gone, for instance."""
    broken: list[Answer] = [STARTED, followed(1)] if begins else [("start", 1, "", "ERROR: TPUInUnusableTerminalState")]
    story = [state("ACTIVE"), *broken, state("ACTIVE"), STARTED, followed(0), state("ACTIVE"), DELETED]
    assert told(tmp_path, story, MAX_CRASHES="0").returncode == 0


def test_crashes_that_look_like_progress_are_bounded_too(tmp_path: pathlib.Path):
    crash = [state("ACTIVE"), STARTED, followed(3), STOPPED]
    done = told(tmp_path, [*crash * 2, *crash[:3], state("ACTIVE"), DELETED], PROGRESS_S="0", MAX_CRASHES_IN_ALL="2")
    assert done.returncode == 1
    assert "given up: MAX_CRASHES_IN_ALL" in done.stdout


def test_training_stopped_by_hand_gives_the_tpu_back(tmp_path: pathlib.Path):
    done = told(tmp_path, [state("ACTIVE"), STARTED, followed(130), state("ACTIVE"), DELETED])
    assert done.returncode == 130
    assert "stopped by hand" in done.stdout


def test_a_deletion_that_fails_is_tried_again_but_not_for_ever(tmp_path: pathlib.Path):
    stuck: Answer = ("delete", 1, "", "ERROR: PERMISSION_DENIED")
    done = told(tmp_path, [state("SUSPENDED"), stuck] * 10)
    assert done.returncode == 1
    assert "could not be deleted 10 times; it is there, and may be paid for" in done.stderr


def test_a_look_that_fails_is_repeated(tmp_path: pathlib.Path):
    story = [OFFLINE, OFFLINE, state("ACTIVE"), STARTED, followed(0), state("ACTIVE"), DELETED]
    assert told(tmp_path, story).returncode == 0


def test_gcloud_that_never_answers_ends_it_with_a_warning(tmp_path: pathlib.Path):
    done = told(tmp_path, [OFFLINE] * 10)
    assert done.returncode == 1
    assert "the TPU may be there, and be paid for" in done.stderr
    assert "refreshing your tokens" in done.stderr


def test_a_tpu_that_cannot_be_deleted_is_said(tmp_path: pathlib.Path):
    stuck: Answer = ("delete", 1, "", "ERROR: INTERNAL")
    done = told(tmp_path, [state("ACTIVE"), STARTED, followed(0), state("ACTIVE"), stuck])
    assert done.returncode == 1
    assert "could not be deleted, and is paid for" in done.stderr


def test_ctrl_c_ends_the_babysitter_only(tmp_path: pathlib.Path):
    write_tool(tmp_path / "bin", "gcloud", _ENDLESS_GCLOUD)
    environment = os.environ | {"PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}"}
    # where tests run in the background Ctrl-C is ignored, and what they start ignores it too
    command = ["env", "--default-signal=INT", str(LAUNCH / "tpu_babysit.sh"), f"--env={write_env(tmp_path)}"]
    looking = subprocess.Popen(command, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True)
    give_up = time.monotonic() + 30
    while not (tmp_path / "bin" / "following").exists() and time.monotonic() < give_up:
        time.sleep(0.05)
    os.killpg(looking.pid, signal.SIGINT)  # as a terminal does
    said, _ = looking.communicate(timeout=30)
    assert looking.returncode == 130
    assert "the TPU and the training go on" in said
    assert [words[2:4] for words in calls(tmp_path / "bin")] == [["queued-resources", "describe"], ["tpu-vm", "ssh"], ["tpu-vm", "ssh"]]


def test_the_commands_of_one_slice(tmp_path: pathlib.Path):
    told(tmp_path, [MISSING, CREATED, state("ACTIVE"), STARTED, followed(42), STOPPED, state("ACTIVE"), STARTED, followed(2), *_end()])
    create, start, follow, stop, delete = _first_of_each(tmp_path)
    where = ["--project=project-1", "--zone=us-east5-b", "--quiet"]
    tpus = ["compute", "tpus"]
    size = ["--accelerator-type=v6e-16", "--runtime-version=v2-alpha-tpuv6e"]
    more = VALUES["CREATE_FLAGS"]
    assert create == [*tpus, "queued-resources", "create", "run-1", "--node-id=run-1", "--spot", *size, *more, "--async", *where]
    assert delete == [*tpus, "queued-resources", "delete", "run-1", "--force", *where]
    for words in (start, stop):
        assert words[:5] == [*tpus, "tpu-vm", "ssh", "run-1"]
        assert words[5] == "--worker=all"
    for words in (start, stop, follow):  # or ssh would never notice that a host is gone
        assert "--ssh-flag=-o ServerAliveInterval=30 -o ConnectTimeout=20" in words
    assert follow[:6] == [*tpus, "tpu-vm", "ssh", "run-1", "--worker=0"]


def test_the_commands_of_several_slices(tmp_path: pathlib.Path):
    story = [MISSING, CREATED, state("ACTIVE"), STARTED, followed(42), STOPPED, state("ACTIVE"), STARTED, followed(2), *_end()]
    told(tmp_path, story, SLICES="4")
    create, start, follow, stop, _ = _first_of_each(tmp_path)
    assert {"--node-count=4", "--node-prefix=run-1"} <= set(create)
    assert not any(word.startswith("--node-id") for word in create)
    for words in (start, stop):
        assert words[2:7] == ["queued-resources", "ssh", "run-1", "--node=all", "--worker=all"]
    assert follow[2:6] == ["tpu-vm", "ssh", "run-1-0", "--worker=0"]


def test_the_training_command_reaches_the_hosts_word_by_word(tmp_path: pathlib.Path):
    told(tmp_path, [state("ACTIVE"), STARTED, followed(2), *_end()])
    (start,) = (words for words in calls(tmp_path / "bin", "gcloud") if "docker run" in " ".join(words))
    (command,) = (word.removeprefix("--command=") for word in start if word.startswith("--command="))
    words = shlex.split(command)
    image = words.index(str(VALUES["IMAGE"]))
    assert words[image + 1 :] == [
        *("python", "-m", "rsfm_jax.train", "--cluster", "--config=configs/a2mae.py:vit_l"),
        *("--workdir=/proc/runs/run-1", "--config.data.path=/proc/data/run1", *VALUES["OVERRIDES"]),
    ]
    assert words[image - 1] == f"--env=LIBTPU_INIT_ARGS={VALUES['LIBTPU_INIT_ARGS']}"
    assert not any("--env=XLA_FLAGS" in word for word in words)


def _end() -> list[Answer]:
    return [state("ACTIVE"), DELETED]


def _first_of_each(folder: pathlib.Path) -> list[list[str]]:
    called = calls(folder / "bin", "gcloud")
    marks = ("queued-resources create", "docker run", "docker logs", "docker stop", "queued-resources delete")
    return [next(words for words in called if mark in " ".join(words)) for mark in marks]
