"""The train step against the PyTorch peer on the same work: MAE of `transformers.ViTMAEForPreTraining`, same sizes, images and optimiser.

    python benchmarks/step.py --size=base --backend=cpu

Both take steps in turn in one process, `--steps` at a time, for `--rounds` rounds after one that is not counted. The first step of a turn
is not counted either: it takes back from the kernel the memory that the other gave up. A step is forward, backward and AdamW without decay
on biases and norms; the loss is read at the end of a turn. Ours is the step that training runs, with masks drawn, invalid pixels told
apart, gradients clipped and metrics worked out. On a GPU the peer is compiled (torch.compile), with scaled dot-product attention, bfloat16
autocast and fused AdamW, and ours computes in bfloat16 on float32 weights, attention with
cuDNN. On a CPU the script starts itself anew with huge pages for what
malloc hands out, to both (GLIBC_TUNABLES=glibc.malloc.hugetlb=1, unless that variable is set already).

MFU is the FLOPs of `rsfm_jax.train.flops`, recomputation not counted, over the peak: on a GPU the vendor's, on the CPU that of a product of
two large matrices in PyTorch, measured here. The last line is JSON.
"""

import argparse
from collections.abc import Callable
import dataclasses
import json
import os
import pathlib
import statistics
import sys
import time
from typing import Any

os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # the peer needs memory on the same GPU
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

import jax
import numpy as np
import torch

from benchmarks.parity_mae import B1, B2, LEARNING_RATE, MASK_RATIO, PLAIN, SIZES, WEIGHT_DECAY, Size, adamw, camera, peer
from rsfm_jax.config import Config, DataConfig, MaskConfig, OptimConfig, TrainConfig
from rsfm_jax.errors import InputError, exit_code
from rsfm_jax.parallel.chips import peak_flops
from rsfm_jax.train.flops import step_flops
from rsfm_jax.train.optimizer import REFERENCE_BATCH
from rsfm_jax.train.program import make_program
from rsfm_jax.train.state import init_state

Turn = Callable[[int], float]  # takes so many steps and returns the last loss


def our_config(size: Size, batch: int, backend: str) -> Config:
    """The same experiment as the peer's."""
    kind = {"cpu": "float32", "gpu": "bfloat16"}[backend]
    attention = {"cpu": "plain", "gpu": "cudnn"}[backend]
    model = dataclasses.replace(size.model, compute_dtype=kind, attention=attention, unroll=0 if backend == "cpu" else 1)
    return Config(
        data=DataConfig(global_batch_size=batch),
        mask=MaskConfig(ratio=MASK_RATIO),
        encoding=PLAIN,
        model=model,
        optim=OptimConfig(LEARNING_RATE * REFERENCE_BATCH / batch, 1, B1, B2, WEIGHT_DECAY),
        train=TrainConfig(steps=1_000_000),
    )


class Ours:
    """Our step on images that stay on the device.

    Attributes:
      program: What is computed.
      state: Of training; every step replaces it.
    """

    def __init__(self, config: Config, pixels_BHWC: np.ndarray, patch: int) -> None:
        """Places the images and draws the parameters."""
        layout = camera(pixels_BHWC.shape[1], patch)
        self.program = program = make_program(config, (layout,), jax.devices()[:1])
        batch = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), program.abstract_batch(layout))
        member = batch["members"][0]
        member |= {"pixels": pixels_BHWC, "valid": np.ones(pixels_BHWC.shape, bool), "grid_m": np.ones_like(member["grid_m"])}
        batch["global_index"] = np.arange(len(pixels_BHWC), dtype=np.uint32)
        self._placed = jax.device_put(batch, jax.tree.map(lambda leaf: leaf.sharding, program.abstract_batch(layout)))
        self._step = program.step(layout)
        self.state = program.hold(init_state(program.spec, program.optimizer, program.abstract, seed=0))

    def turn(self, steps: int) -> float:
        """Takes so many steps; returns the last loss."""
        metrics = {}
        for _ in range(steps):
            self.state, metrics = self._step(self.state, self._placed)
        return float(metrics["loss"])


def theirs(size: Size, pixels_BHWC: np.ndarray, backend: str) -> Turn:
    """The peer's step on the same images."""
    device = {"cpu": "cpu", "gpu": "cuda"}[backend]
    model = peer(size.model, pixels_BHWC.shape[1], size.patch).to(device)
    optimizer = adamw(model, fused=True)
    forward = torch.compile(model) if backend == "gpu" else model
    images = torch.from_numpy(pixels_BHWC.transpose(0, 3, 1, 2)).contiguous().to(device)

    def turn(steps: int) -> float:
        loss = torch.zeros(())
        for _ in range(steps):
            optimizer.zero_grad()
            with torch.autocast("cuda", torch.bfloat16, enabled=backend == "gpu"):
                loss = forward(images).loss
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
        return loss.item()

    return turn


def matrix_flops(seconds: float = 2.0, width: int = 2048) -> float:
    """FLOP/s of float32 products of two large matrices in PyTorch on the CPU."""
    a, best, until = torch.randn(width, width), 0.0, time.perf_counter() + seconds
    while time.perf_counter() < until:
        begin = time.perf_counter()
        torch.mm(a, a)
        best = max(best, 2 * width**3 / (time.perf_counter() - begin))
    return best


def _huge_pages() -> str:
    """What the kernel allows, and what glibc was told."""
    file = pathlib.Path("/sys/kernel/mm/transparent_hugepage/enabled")
    allowed = file.read_text().strip() if file.exists() else "unknown"
    return f"{allowed}; GLIBC_TUNABLES={os.environ.get('GLIBC_TUNABLES', '')}"


def timed(turn: Turn, steps: int) -> float:
    """Seconds of a step, after one that is not counted."""
    turn(1)
    begin = time.perf_counter()
    loss = turn(steps)
    if not np.isfinite(loss):
        raise AssertionError(f"loss {loss}")
    return (time.perf_counter() - begin) / steps


def measure(size: Size, backend: str, batch: int, steps: int, rounds: int) -> dict[str, Any]:
    """Times both in turn.

    Args:
      size: Of the model.
      backend: ``cpu`` or ``gpu``.
      batch: Images in a step.
      steps: Steps of a turn.
      rounds: Rounds that count.

    Returns:
      Medians, their ratio, the ratios of the single rounds, FLOP/s and MFU.
    """
    height, width = size.images[0]
    pixels = np.random.default_rng(0).normal(size=(batch, height, width, 3)).astype(np.float32)
    config = our_config(size, batch, backend)
    turns = {"ours": Ours(config, pixels, size.patch).turn, "torch": theirs(size, pixels, backend)}
    flops = step_flops(config, camera(width, size.patch)) * batch
    peak = matrix_flops() if backend == "cpu" else peak_flops(jax.devices()[0])
    seconds: dict[str, list[float]] = {name: [] for name in turns}
    for number in range(rounds + 1):
        for name, turn in turns.items():
            spent = timed(turn, steps)
            if number:
                seconds[name].append(spent)
        if number:
            print(f"round {number}: ours {seconds['ours'][-1]:.4f} s, torch {seconds['torch'][-1]:.4f} s a step", flush=True)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    ratios = sorted(a / b for a, b in zip(seconds["ours"], seconds["torch"], strict=True))
    found: dict[str, Any] = {"ratio_ours_over_torch": medians["ours"] / medians["torch"], "ratios": [ratios[0], ratios[-1]]}
    for name, median in medians.items():
        found |= {f"{name}_s": median, f"{name}_flops_per_s": flops / median, f"{name}_mfu": flops / median / peak if peak else None}
    return found | {
        "flops": flops,
        "peak_flops": peak,
        "device": jax.devices()[0].device_kind,
        "huge_pages": _huge_pages(),
        "jax": jax.__version__,
        "torch": torch.__version__,
    }


def run(given: argparse.Namespace) -> None:
    """Checks that the backend is there, measures and prints."""
    if min(given.batch, given.steps, given.rounds) < 1:
        raise InputError("--batch, --steps and --rounds must be at least 1")
    if given.backend == "gpu" and jax.default_backend() != "gpu":
        raise InputError(f"--backend=gpu: jax sees no GPU here (backend {jax.default_backend()!r}); nothing was measured")
    if given.backend == "gpu" and not torch.cuda.is_available():
        raise InputError("--backend=gpu: this PyTorch sees no GPU; install one built for CUDA; nothing was measured")
    if given.backend == "cpu" and jax.default_backend() != "cpu":
        raise InputError("--backend=cpu: set JAX_PLATFORMS=cpu, or ours would run on the accelerator")
    found = measure(SIZES[given.size], given.backend, given.batch, given.steps, given.rounds)
    for name in ("ours", "torch"):
        mfu = f", MFU {found[f'{name}_mfu']:.1%}" if found["peak_flops"] else ""
        print(f"{name}: median {found[f'{name}_s']:.4f} s a step, {found[f'{name}_flops_per_s'] / 1e9:,.0f} GFLOP/s{mfu}")
    print(json.dumps(found), flush=True)


def main() -> int:
    """Reads the flags and runs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=SIZES, default="base")
    parser.add_argument("--backend", choices=("cpu", "gpu"), default="cpu")
    parser.add_argument("--batch", type=int, default=8, help="images in a step")
    parser.add_argument("--steps", type=int, default=2, help="steps of a turn")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each that count")
    given = parser.parse_args()
    if given.backend == "cpu" and sys.platform == "linux" and "GLIBC_TUNABLES" not in os.environ:
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], os.environ | {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"})
    return exit_code(lambda: run(given))


if __name__ == "__main__":
    sys.exit(main())
