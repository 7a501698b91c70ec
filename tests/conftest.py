"""Shared fixtures. The environment comes first: jax reads it when it is imported."""

import atexit
import importlib.metadata
import os
import shutil
import tempfile

_FLAGS = "--xla_force_host_platform_device_count=8 --xla_backend_optimization_level=0"  # tests compile much and run little
if importlib.metadata.version("jaxlib").startswith("0.10."):
    _FLAGS += " --xla_cpu_use_fusion_emitters=false"  # compiles in half the time; jaxlib 0.12 has no such flag and stops at it
if _FLAGS not in os.environ.get("XLA_FLAGS", ""):
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {_FLAGS}".strip()
os.environ.setdefault("JAX_PLATFORMS", "cpu")
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:  # the programs that tests run as subprocesses compile what this process compiled
    os.environ["JAX_COMPILATION_CACHE_DIR"] = tempfile.mkdtemp(prefix="rsfm-jax-compiled-")
    atexit.register(shutil.rmtree, os.environ["JAX_COMPILATION_CACHE_DIR"], ignore_errors=True)
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")

import json  # noqa: E402
import pathlib  # noqa: E402
from typing import Any  # noqa: E402
import warnings  # noqa: E402

from jaxtyping import install_import_hook  # noqa: E402
import pytest  # noqa: E402

_CHECKED = install_import_hook(["rsfm_jax.nn", "rsfm_jax.objectives", "rsfm_jax.models"], "beartype.beartype")  # array shapes and types

from configs import demo  # noqa: E402
from rsfm_jax.config import Config, CurateConfig  # noqa: E402
from rsfm_jax.curate.pipeline import Order, run_curate  # noqa: E402
from rsfm_jax.data.dataset import Dataset, open_dataset  # noqa: E402
from rsfm_jax.ingest.pipeline import run_ingest  # noqa: E402
from tests import tiny_config  # noqa: E402

_REPO = pathlib.Path(__file__).resolve().parent.parent


_LONGEST_FIRST = (  # files that take half a minute and more; begun last, one of them keeps one worker busy when the others are done
    "integration/test_processes.py",
    "models/test_influence.py",
    "models/test_variants.py",
    "export/test_formats.py",
    "train/test_step.py",
    "train/test_unrolled.py",
    "torch_side/test_modeling.py",
    "integration/test_interruptions.py",
    "train/test_microbatches.py",
    "launch/test_slurm.py",
    "objectives/test_augment.py",
    "compile/test_compile.py",
    "export/test_export.py",
    "models/test_mae.py",
    "train/test_exported.py",
    "parallel/test_placing.py",
    "train/test_pretrained.py",
    "test_docs.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Puts the files that take longest first, the longest of all before the others."""
    place = {_REPO / "tests" / name: i for i, name in enumerate(_LONGEST_FIRST)}
    items.sort(key=lambda item: place.get(item.path, len(place)))


def pytest_configure(config: pytest.Config) -> None:
    """Has pytest-xdist deal files in the order above, which it would change to that of their numbers of tests.

    And reads of damaged checkpoints that Orbax gave up on complain when they are collected, in any later test or at the end.
    """
    if hasattr(config.option, "loadscopereorder"):
        config.option.loadscopereorder = False
    given_up = "Exception ignored in: <coroutine object _read_array"
    config.addinivalue_line("filterwarnings", f"ignore:{given_up.replace(':', '.')}:pytest.PytestUnraisableExceptionWarning")
    warnings.filterwarnings("ignore", message=given_up, category=pytest.PytestUnraisableExceptionWarning)


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


@pytest.fixture(scope="session")
def tiny_path(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """The example scenes as a dataset folder, ingested with the layouts of tests/tiny_config.py."""
    out = tmp_path_factory.mktemp("tiny") / "dataset"
    run_ingest(_REPO / "examples" / "scenes", out, tiny_config.get_config().ingest)
    return out


@pytest.fixture(scope="session")
def tiny_dataset(tiny_path: pathlib.Path) -> Dataset:
    """The tiny dataset, opened."""
    return open_dataset(str(tiny_path))


@pytest.fixture(scope="session")
def curated(tiny_path: pathlib.Path, tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """The tiny dataset, curated to 30 of its 105 sets in clusters of 3 kept ones. Tests must not write into it."""
    out = tmp_path_factory.mktemp("curated") / "curated"
    run_curate(Order(tiny_path, 30, out), CurateConfig(sets_per_cluster=3.0))
    return out


@pytest.fixture
def tiny(tiny_path: pathlib.Path) -> Config:
    """A fresh copy of the tiny experiment on the tiny dataset."""
    config = tiny_config.get_config()
    config.data.path = str(tiny_path)
    return config


@pytest.fixture(scope="session")
def trained(tiny_path: pathlib.Path, tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """The folder of the tiny experiment, run to its end on all devices. Tests must not write into it."""
    from rsfm_jax.train.loop import run_training

    config = tiny_config.get_config()
    config.data.path = str(tiny_path)
    workdir = tmp_path_factory.mktemp("trained") / "run"
    assert run_training(config, str(workdir)) == 0
    return workdir


@pytest.fixture(scope="session")
def exported(trained: pathlib.Path, tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """The model folder exported from that run. Tests must not write into it."""
    pytest.importorskip("torch", reason="no CPU wheel of PyTorch for this Python")
    from rsfm_jax.export.folder import export_run

    out = tmp_path_factory.mktemp("exported") / "weights"
    export_run(trained, out)
    return out
