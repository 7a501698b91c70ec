"""The walls between rooms, read from the import statements themselves."""

import ast
from collections.abc import Iterator
import pathlib
import subprocess
import sys

import pytest

JAX = ("jax", "jaxlib", "flax", "optax")
TORCH = ("torch", "torchvision", "timm")
WITHOUT_JAX = (
    "data",
    "ingest",
    "torch",
    "evaluate",
    "sensors",
    "geo",
    "errors",
    "config",
    "knobs",
    "layouts",
    "mask_rules",
    "sizes",
    "cli",
    "display",
    "pages",
)
PURE = ("nn", "models", "objectives")
WITH_TORCH = ("export", "torch", "evaluate")
PLUG_INS = {  # libraries that only the file of their name may import, and what comes with them
    "torch/terratorch.py": ("terratorch",),
    "torch/pangaea.py": ("pangaea",),
    "torch/torchgeo.py": ("torchgeo", "timm", "torchvision"),
    "torch/torchgeo_bench.py": ("torchgeo_bench",),
    "torch/torchvision.py": ("torchvision",),
}
MAY_ASK_TORCH = (*WITH_TORCH, "train")  # rooms that may import the room rsfm_jax.torch


def _imports(file: pathlib.Path) -> Iterator[tuple[int, str]]:
    """Every imported module of a file, also inside functions, as (line, dotted name)."""
    for node in ast.walk(ast.parse(file.read_text(), str(file))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}:{node.lineno}: relative import; write the full name"
            assert node.module
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)


def _within(name: str, packages: tuple[str, ...]) -> bool:
    return any(name == package or name.startswith(f"{package}.") for package in packages)


def broken_walls(package: pathlib.Path) -> list[str]:
    """Imports that a room must not have, as "file:line: imports name"."""
    broken = []
    for file in sorted(package.rglob("*.py")):
        inside = file.relative_to(package)
        room = inside.parts[0].removesuffix(".py")
        forbidden: tuple[str, ...] = ()
        if room in WITHOUT_JAX:
            forbidden += JAX
        if room in PURE:
            forbidden += tuple(f"rsfm_jax.{other}" for other in ("parallel", "train", "data", "export"))
        if room == "curate":  # it may run affinity propagation in jax, and knows nothing of networks
            forbidden += tuple(f"rsfm_jax.{other}" for other in ("parallel", "train", "models", "nn", "objectives"))
        if room not in WITH_TORCH:
            forbidden += TORCH
        own = PLUG_INS.get(inside.as_posix(), ())
        forbidden += tuple(library for libraries in PLUG_INS.values() for library in libraries if library not in own)
        forbidden += tuple(f"rsfm_jax.{file.removesuffix('.py').replace('/', '.')}" for file in PLUG_INS)
        if room not in MAY_ASK_TORCH:
            forbidden += ("rsfm_jax.torch",)
        if inside.as_posix() != "train/checkpoint.py":
            forbidden += ("orbax",)
        broken += [f"{inside}:{line}: imports {name}" for line, name in _imports(file) if _within(name, forbidden)]
    return broken


def test_no_wall_is_broken(repo):
    assert broken_walls(repo / "rsfm_jax") == []


def test_init_files_are_empty(repo):
    found = sorted((repo / "rsfm_jax").rglob("__init__.py"))
    assert len(found) >= 2
    assert [str(file) for file in found if file.read_text().strip()] == []


@pytest.mark.parametrize(
    ("file", "line"),
    [
        ("data/stream.py", "import jax.numpy as jnp"),
        ("ingest/sets.py", "from flax import nnx"),
        ("geo.py", "def f():\n    import optax"),
        ("models/mae.py", "from rsfm_jax.parallel.mesh import make_mesh"),
        ("objectives/masking.py", "from rsfm_jax import train"),
        ("nn/layers.py", "import torch"),
        ("curate/selection.py", "import torch"),
        ("curate/report.py", "from rsfm_jax.train.pictures import draw"),
        ("torch/model.py", "import jax"),
        ("torch/model.py", "import timm"),
        ("torch/pangaea.py", "import terratorch"),
        ("torch/torchvision.py", "import timm"),
        ("evaluate/probe.py", "from rsfm_jax.torch.terratorch import rsfm_encoder"),
        ("evaluate/probe.py", "from jax import numpy"),
        ("train/loop.py", "from orbax import checkpoint"),
        ("train/pretrained.py", "def f():\n    import torch"),
        ("models/mae.py", "def f():\n    from rsfm_jax.torch import published"),
    ],
)
def test_the_check_sees_a_broken_wall(tmp_path, file, line):
    (tmp_path / file).parent.mkdir(exist_ok=True)
    (tmp_path / file).write_text(line)
    (found,) = broken_walls(tmp_path)
    assert found.startswith(f"{file}:")


@pytest.mark.parametrize(
    ("file", "line"),
    [
        ("train/checkpoint.py", "import orbax.checkpoint"),
        ("export/timm.py", "import jax, torch"),
        ("curate/affinity.py", "import jax"),
        ("torch/model.py", "import torch"),
        ("torch/torchgeo.py", "import timm"),
        ("torch/torchvision.py", "import torchvision"),
        ("train/pretrained.py", "def f():\n    from rsfm_jax.torch import published"),
    ],
)
def test_the_check_allows_what_is_allowed(tmp_path, file, line):
    (tmp_path / file).parent.mkdir()
    (tmp_path / file).write_text(line)
    assert broken_walls(tmp_path) == []


@pytest.mark.parametrize("module", ["ingest.pipeline", "curate.describing"])
def test_what_beam_workers_run_loads_neither_jax_nor_tensorflow(repo, module):
    code = f"import sys, rsfm_jax.{module}; print(sorted({{'jax', 'jaxlib', 'flax', 'torch', 'tensorflow'}} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=repo, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_training_works_without_torch(repo):
    code = "import sys; sys.modules['torch'] = None; import rsfm_jax.train.loop; print('rsfm_jax.torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=repo, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
