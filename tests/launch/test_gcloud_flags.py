"""Every gcloud command that the scripts can print, checked by the SDK's own parser, without a network."""

import json
import pathlib
import shlex
import shutil
import subprocess

import pytest

from tests.launch.scripted import printed_commands, run_script, write_env

VARIANTS: dict[str, dict[str, str | list[str]]] = {
    "spot": {},
    "reserved": {"CAPACITY": "reserved"},
    "on-demand": {"CAPACITY": "on-demand", "CREATE_FLAGS": []},
    "multislice": {"SLICES": "2"},
}


def lint(commands: list[list[str]], folder: pathlib.Path) -> list[str | None]:
    """What the SDK says against each of these different commands, None where it has nothing to say."""
    gcloud = shutil.which("gcloud")
    if not gcloud:
        pytest.skip("no gcloud here")
    file = folder / "commands.json"
    file.write_text(json.dumps([{"command_string": shlex.join(words)} for words in commands]))
    done = subprocess.run([gcloud, "meta", "lint-gcloud-commands", f"--commands-file={file}"], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"this gcloud cannot lint: {done.stderr.strip()[-300:]}")
    return [None if found["success"] else str(found["error_message"]) for found in json.loads(done.stdout)]


def all_commands(folder: pathlib.Path) -> list[list[str]]:
    """The different commands of all variants."""
    found: dict[str, list[str]] = {}
    for changes in VARIANTS.values():
        done = run_script("tpu_babysit.sh", "--dry-run", f"--env={write_env(folder, **changes)}")
        assert done.returncode == 0, done.stderr
        commands = list(printed_commands(done.stdout))
        assert len(commands) == 6
        found |= {shlex.join(words): words for words in commands}
    return list(found.values())


def test_the_sdk_accepts_every_command(tmp_path: pathlib.Path):
    commands = all_commands(tmp_path)
    assert {words[0] for words in commands} == {"gcloud"}
    assert {" ".join(words[3:5]) for words in commands} == {
        *(f"queued-resources {verb}" for verb in ("create", "describe", "delete", "ssh")),
        "tpu-vm ssh",
    }
    said = lint(commands, tmp_path)
    assert len(said) == len(commands) >= 10
    assert [(shlex.join(words)[:100], found) for words, found in zip(commands, said, strict=True) if found] == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["queued-resources", "delete", "run-1", "--zonee=z"], "unrecognized arguments: --zonee=z"),
        (["queued-resources", "create", "run-1", "--node-id=a", "--zone=z", "--runtime-version=v"], "--accelerator-type"),
        (["tpu-vm", "ssh", "--worker=all"], "argument [USER@]TPU: Must be specified"),
    ],
)
def test_the_sdk_refuses_a_wrong_command(tmp_path: pathlib.Path, words: list[str], message: str):
    (said,) = lint([["gcloud", "compute", "tpus", *words]], tmp_path)
    assert said
    assert message in said
