"""What `tpu.sh train` has a host do, run as ssh would run it, with a docker that keeps its containers in a folder."""

from concurrent.futures import ThreadPoolExecutor
import json
import pathlib
import subprocess

import pytest

from tests.launch.scripted import VALUES, calls, run_script, write_env, write_tool

_DOCKER = """
import os, pathlib, time
folder = pathlib.Path(__file__).parent / "containers"
folder.mkdir(exist_ok=True)
verb, *words = sys.argv[1:]
if verb == "ps":
    print(*(file.name for file in folder.iterdir() if file.read_text() == "runs"), sep="\\n")
elif verb == "run":
    name = next(word for word in words if word.startswith("--name=")).removeprefix("--name=")
    time.sleep(0.3)
    (folder / name).write_text("runs")
elif verb == "rm":
    (folder / words[-1]).unlink()
elif verb in ("logs", "wait"):
    print((folder / words[-1]).read_text())
"""

# Host commands go through gcloud as through ssh: taken apart at blanks, put together with blanks, read by the user's shell.
_GCLOUD = """
import subprocess
if "auth" in sys.argv:
    sys.exit()
(command,) = (word.removeprefix("--command=") for word in sys.argv if word.startswith("--command="))
sys.exit(subprocess.run(["bash", "-c", " ".join(command.split(" "))]).returncode)
"""


@pytest.fixture
def host(tmp_path: pathlib.Path) -> pathlib.Path:
    """A folder of stand-ins that make this machine the only host of a TPU."""
    write_tool(tmp_path / "bin", "sudo", "import os\nos.execvp(sys.argv[1], sys.argv[1:])")
    write_tool(tmp_path / "bin", "docker", _DOCKER)
    write_tool(tmp_path / "bin", "gcloud", _GCLOUD)
    return tmp_path


def ends(host: pathlib.Path, code: int) -> None:
    (host / "bin" / "containers" / "run-1").write_text(str(code))


def train(host: pathlib.Path, **changes: str) -> subprocess.CompletedProcess[str]:
    """Starts training and does not follow it: the stand-in's log ends at once, and it would wait for a code that is not a number."""
    return run_script("tpu.sh", "train", f"--env={write_env(host, **changes)}", bin_folder=host / "bin")


def docker(host: pathlib.Path, verb: str) -> list[list[str]]:
    return [words[1:] for words in calls(host / "bin", "docker") if words[0] == verb]


def test_a_host_starts_the_container_with_the_words_of_the_command(host: pathlib.Path):
    train(host)
    (words,) = docker(host, "run")
    image = words.index(str(VALUES["IMAGE"]))
    assert {"--detach", "--name=run-1", "--label=rsfm_jax", "--net=host", "--privileged"} <= set(words[:image])
    assert f"--env=LIBTPU_INIT_ARGS={VALUES['LIBTPU_INIT_ARGS']}" in words[:image]
    assert words[image + 1 : image + 5] == ["python", "-m", "rsfm_jax.train", "--cluster"]
    assert words[-2:] == VALUES["OVERRIDES"]


def test_two_at_the_same_time_start_one(host: pathlib.Path):
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: train(host), range(4)))
    assert len(docker(host, "run")) == 1


def test_a_second_ssh_finds_it_running(host: pathlib.Path):
    train(host)
    assert "training runs here already" in train(host).stdout
    assert len(docker(host, "run")) == 1


def test_after_it_ended_it_is_started_anew_in_place_of_the_old(host: pathlib.Path):
    train(host)
    ends(host, 42)
    train(host)
    assert len(docker(host, "run")) == 2
    assert docker(host, "rm")[-1] == ["--force", "run-1"]


@pytest.mark.parametrize(("code", "seen"), [(0, 0), (2, 2), (42, 42), (130, 130), (1, 3)])
def test_following_exits_with_the_container_s_exit_code(host: pathlib.Path, code: int, seen: int):
    """Save for 1, which gcloud itself exits with."""
    write_tool(host / "bin", "docker", f"{_DOCKER}\nif verb == 'run':\n    (folder / name).write_text('{code}')")
    assert train(host).returncode == seen


def test_without_a_container_it_looks_as_if_ssh_had_broken(host: pathlib.Path):
    write_tool(host / "bin", "docker", "sys.exit(1 if sys.argv[1] == 'logs' else 0)")
    assert train(host).returncode == 255


def test_only_google_s_registries_need_a_login(host: pathlib.Path):
    train(host)
    assert ["auth", "configure-docker", "us-docker.pkg.dev", "--quiet"] in calls(host / "bin", "gcloud")
    ends(host, 0)
    before = len(calls(host / "bin", "gcloud"))
    train(host, IMAGE="docker.io/someone/rsfm:1")
    assert not any("auth" in words for words in calls(host / "bin", "gcloud")[before:])


def test_it_does_not_start_where_the_folder_is_not_mounted(host: pathlib.Path):
    for folder in (host / "nowhere", pathlib.Path("/usr")):
        done = train(host, BUCKET=str(folder), WORKDIR=f"{folder}/run", DATA=f"{folder}/data")
        assert done.returncode == 255
        assert f"{folder} is not mounted (yet)" in done.stdout
    assert docker(host, "run") == []


def test_a_mounted_folder_is_the_container_s_too(host: pathlib.Path):
    train(host)
    (words,) = docker(host, "run")
    assert "--mount=type=bind,source=/proc,target=/proc" in words


def test_stopping_asks_every_host(host: pathlib.Path):
    done = run_script("tpu.sh", "stop", f"--env={write_env(host)}", bin_folder=host / "bin")
    assert done.returncode == 0, done.stderr
    assert docker(host, "stop") == [["-t", "120", "run-1"]]


def test_the_stand_in_for_docker_keeps_its_log(host: pathlib.Path):
    train(host)
    log = (host / "bin" / "calls.jsonl").read_text().splitlines()
    assert [json.loads(line)[1] for line in log if json.loads(line)[0].endswith("docker")] == ["ps", "rm", "run", "logs", "wait"]
