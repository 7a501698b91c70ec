"""The Dockerfile's sources, as far as they can be checked without building it."""

import re
import tomllib

from tests.launch.scripted import LAUNCH, REPO

DOCKERFILE = (LAUNCH / "Dockerfile").read_text()
COPIED = [source for line in re.findall(r"^COPY (.+)$", DOCKERFILE, re.MULTILINE) for source in line.split()[:-1]]


def test_what_is_copied_is_in_the_repository():
    assert {"rsfm_jax", "configs", "pyproject.toml", "constraints.txt"} <= set(COPIED)
    assert [source for source in COPIED if not (REPO / source).exists()] == []


def test_only_what_is_copied_reaches_the_builder():
    allowed = [line[1:] for line in (REPO / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    assert (REPO / ".dockerignore").read_text().startswith("*\n")
    assert sorted(allowed) == sorted(COPIED)


def test_its_extras_exist():
    extras = tomllib.loads((REPO / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert {"tpu", "gpu"} <= extras.keys()
    assert "ARG EXTRA=tpu" in DOCKERFILE
    assert '--constraint=constraints.txt --editable=".[$EXTRA]"' in DOCKERFILE
