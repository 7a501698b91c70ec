"""TPU pods by name, described by libtpu's compiler without the pod; or the GPUs of this machine."""

import dataclasses
import importlib.util
import math
import os
import re
from typing import Any

from rsfm_jax.errors import InputError, first_line, nearest
from rsfm_jax.parallel.chips import TPU_PEAK_FLOPS, peak_flops

_MIB = 2**20


@dataclasses.dataclass(frozen=True)
class Generation:
    """What one chip has.

    Attributes:
      hbm_bytes: Memory that the compiler lets a program use.
      peak_flops: bfloat16 FLOP/s; None where unknown.
      largest: Largest topology, and so its number of dims; empty for GPUs.
    """

    hbm_bytes: int
    peak_flops: float | None
    largest: tuple[int, ...]


GENERATIONS = {  # hbm_bytes as libtpu states it when a program does not fit
    "v5e": Generation(16_128 * _MIB, TPU_PEAK_FLOPS["v5e"], (16, 16)),
    "v5p": Generation(98_038 * _MIB, TPU_PEAK_FLOPS["v5p"], (16, 16, 24)),
    "v6e": Generation(32_000 * _MIB, TPU_PEAK_FLOPS["v6e"], (16, 16)),
}
_ENVIRONMENT = {
    "JAX_PLATFORMS": "cpu",
    "TPU_SKIP_MDS_QUERY": "1",  # no metadata server to ask
    "TPU_WORKER_HOSTNAMES": "localhost",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
    "TPU_STDERR_LOG_LEVEL": "3",
    "TPU_MIN_LOG_LEVEL": "3",
    "TPU_ACCELERATOR_TYPE": "v5litepod-4",  # any; without it comes a warning
}
_SMALL_V5P = ((2, 2, 1), (2, 2, 2), (2, 2, 4), (2, 4, 4))
LOCAL = "local"
_FLAT = ((1, 1), (2, 2), (2, 4), (4, 4), (4, 8), (8, 8), (8, 16), (16, 16))


@dataclasses.dataclass(frozen=True)
class Topology:
    """A pod slice, or several, or this machine.

    Attributes:
      name: As ``v5e:16x16``; ``local`` for the GPUs of this machine.
      generation: Its chips.
      slices: Number of equal slices, joined by the data-centre network.
      chips: Chips of all slices.
    """

    name: str
    generation: Generation
    slices: int
    chips: int


def parse_topology(name: str, slices: int) -> Topology:
    """Reads a topology's name.

    Args:
      name: Generation and chips along each dim, as ``v5p:8x8x8``.
      slices: Number of slices.

    Returns:
      The topology.

    Raises:
      InputError: no such generation, or no such shape of it.
    """
    letter, _, shape = name.partition(":")
    if letter not in GENERATIONS:
        raise InputError(
            f"--topology={name}: no generation {letter!r} (there are {', '.join(GENERATIONS)}, and local){nearest(letter, GENERATIONS)}"
        )
    generation = GENERATIONS[letter]
    example = "x".join(map(str, generation.largest))
    if not re.fullmatch(r"\d+(x\d+)*", shape) or shape.count("x") + 1 != len(generation.largest):
        raise InputError(f"--topology={name}: must be {letter}: and {len(generation.largest)} numbers, as {letter}:{example}")
    sizes = tuple(int(size) for size in shape.split("x"))
    if len(generation.largest) == 2:
        exists, has = sizes in _FLAT, ", ".join("x".join(map(str, dims)) for dims in _FLAT)
    else:
        fits = all(size % 4 == 0 and 0 < size <= most for size, most in zip(sorted(sizes), generation.largest, strict=True))
        exists, has = fits or sizes in _SMALL_V5P, f"2x2x1, 2x2x2, 2x2x4, 2x4x4 and multiples of 4 along each dim up to {example}"
    if not exists:
        raise InputError(f"--topology={name}: {letter} has no such slice (there are {has})")
    if slices < 1:
        raise InputError(f"--slices={slices}: must be at least 1")
    return Topology(name, generation, slices, math.prod(sizes) * slices)


def local_topology(slices: int) -> Topology:
    """The GPUs of this machine; imports jax.

    Args:
      slices: Number of slices; a machine is one.

    Returns:
      Their topology; the memory of one is what JAX lets a program use of it.

    Raises:
      InputError: JAX sees none.
    """
    import jax

    if slices != 1:
        raise InputError(f"--slices={slices}: --topology=local is this machine; leave out --slices")
    try:
        device = jax.devices()[0]
    except RuntimeError as error:
        raise InputError(f"--topology=local: JAX finds no device ({first_line(error)})") from None
    if device.platform != "gpu":
        raise InputError(
            f"--topology=local: JAX sees no GPU here (its backend is {device.platform!r}); pip install -e '.[gpu]', or name a TPU pod, as "
            "v5e:16x16"
        )
    memory = device.memory_stats()
    if not memory:
        raise InputError("--topology=local: this allocator does not say how much memory there is; unset XLA_PYTHON_CLIENT_ALLOCATOR")
    return Topology(LOCAL, Generation(memory["bytes_limit"], peak_flops(device), ()), 1, len(jax.devices()))


def prepare_compiler() -> None:
    """Sets what libtpu reads from the environment; must come before jax is imported.

    Raises:
      InputError: libtpu is not installed.
    """
    if importlib.util.find_spec("libtpu") is None:
        raise InputError("--topology: the TPU compiler (libtpu) is not installed; pip install -c constraints.txt -e '.[tpu]'")
    # without this flag a program that does not fit ends the compilation with its total alone
    os.environ["LIBTPU_INIT_ARGS"] = (os.environ.get("LIBTPU_INIT_ARGS", "") + " --xla_tpu_no_crash_on_oom=true").strip()
    os.environ |= _ENVIRONMENT


def pod_devices(topology: Topology) -> list[Any]:
    """The topology's devices, as a compiler knows them.

    Args:
      topology: The topology.

    Returns:
      One device for each chip; nothing can run on those of a pod.

    Raises:
      InputError: libtpu does not know the topology.
    """
    import jax
    from jax.errors import JaxRuntimeError
    from jax.experimental import topologies

    if topology.name == LOCAL:
        return jax.devices()
    more: dict[str, Any] = {"num_slices": topology.slices} if topology.slices > 1 else {}
    if topology.chips == topology.slices:
        more["chips_per_host_bounds"] = (1, 1, 1)  # of other slices a host has 2 x 2, which libtpu takes for granted
    try:
        described = topologies.get_topology_desc(platform="tpu", topology_name=topology.name, **more)
    except JaxRuntimeError as error:
        raise InputError(f"--topology={topology.name}: the TPU compiler refuses it: {error}") from None
    return list(described.devices)
