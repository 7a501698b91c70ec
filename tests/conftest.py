"""Shared fixtures. The environment comes first: jax reads it when it is imported."""

import os

_EIGHT = "--xla_force_host_platform_device_count=8"
if _EIGHT not in os.environ.get("XLA_FLAGS", ""):
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {_EIGHT}".strip()
os.environ.setdefault("JAX_PLATFORMS", "cpu")

import json  # noqa: E402
import pathlib  # noqa: E402
from typing import Any  # noqa: E402

import pytest  # noqa: E402

from configs import demo  # noqa: E402
from rsfm_jax.ingest.pipeline import run_ingest  # noqa: E402

_REPO = pathlib.Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def repo() -> pathlib.Path:
    """The root of the repository."""
    return _REPO


@pytest.fixture(scope="session")
def shared_data() -> pathlib.Path:
    """Folder of real imagery that is not part of the repository."""
    folder = pathlib.Path(os.environ.get("RSFM_SHARED_DATA", _REPO.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no imagery at {folder}; set RSFM_SHARED_DATA to its folder")
    return folder


@pytest.fixture(scope="session")
def demo_dataset(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """The example scenes as a dataset folder, ingested with the layouts of configs/demo.py."""
    out = tmp_path_factory.mktemp("demo") / "dataset"
    run_ingest(_REPO / "examples" / "scenes", out, demo.get_config().ingest)
    return out


@pytest.fixture(scope="session")
def demo_summary(demo_dataset: pathlib.Path) -> dict[str, Any]:
    """The content of its dataset.json."""
    return json.loads((demo_dataset / "dataset.json").read_text())
