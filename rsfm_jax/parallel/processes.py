"""A run's processes: how they find each other, what only the first does, and what all must agree on.

Every host of a pod, node of a cluster or task of Slurm runs the same command; JAX joins their devices into one mesh.
"""

from collections.abc import Callable
import json
from typing import Any
import zlib

import jax
from jax.experimental import multihost_utils
import numpy as np

from rsfm_jax.errors import InputError


def join(coordinator: str, count: int | None, index: int | None, cluster: bool) -> None:
    """Joins the processes of a run; does nothing for a run of one. Must come before anything touches a device.

    Args:
      coordinator: ``host:port`` of process 0, for processes started by hand; empty otherwise.
      count: Number of processes, with ``coordinator``.
      index: This process's number, with ``coordinator``.
      cluster: Whether Cloud TPU, GKE, Slurm or Open MPI started the processes; JAX asks them.

    Raises:
      InputError: flags that do not go together, or no such cluster.
    """
    if not coordinator:
        if count is not None or index is not None:
            raise InputError("--process_count and --process_index need --coordinator=HOST:PORT, the address of process 0")
        if cluster:
            try:
                jax.distributed.initialize()
            except (ValueError, RuntimeError) as error:
                raise InputError(
                    f"--cluster: JAX finds no cluster here ({str(error).splitlines()[0]}); inside Slurm start with srun, elsewhere give "
                    "--coordinator, --process_count and --process_index"
                ) from None
        return
    host, colon, port = coordinator.rpartition(":")
    if cluster:
        raise InputError("--cluster asks the cluster for the coordinator; leave out --coordinator")
    if not (host and colon and port.isdigit()):
        raise InputError(f"--coordinator={coordinator}: must be HOST:PORT, for instance 10.0.0.2:8476")
    if count is None or index is None or not 0 <= index < count:
        raise InputError(
            f"--coordinator={coordinator}: needs --process_count (given: {count}) and --process_index (given: {index}) from 0 to one less"
        )
    jax.distributed.initialize(coordinator, count, index)


def is_first() -> bool:
    """Whether this process writes what a run writes once: the log, pictures, lines on the terminal."""
    return jax.process_index() == 0


def say(*lines: str) -> None:
    """Prints lines, in the first process only."""
    if is_first():
        print("\n".join(lines), flush=True)


def first_alone(work: Callable[[], None]) -> None:
    """Does work in the first process while the others wait.

    Args:
      work: The work.

    Raises:
      InputError: in every process, when it was raised in the first.
    """
    if jax.process_count() == 1:
        return work()
    refused = None
    if is_first():
        try:
            work()
        except InputError as error:
            refused = error
    if multihost_utils.broadcast_one_to_all(np.array(refused is not None)):
        raise refused or InputError("process 0 refused to start; its message says why")
    return None


def check_same(what: str, value: Any) -> None:
    """Checks that all processes were given the same.

    Args:
      what: What it is, for the message.
      value: JSON.

    Raises:
      InputError: in every process, naming those that differ from the first.
    """
    if jax.process_count() == 1:
        return
    own = np.uint32(zlib.crc32(json.dumps(value, sort_keys=True).encode()))
    of_all = np.asarray(multihost_utils.process_allgather(own)).reshape(-1)
    others = [int(i) for i in np.flatnonzero(of_all != of_all[0])]
    if others:
        raise InputError(f"{what}: not the same in process 0 and in process {', '.join(map(str, others))}; start all with the same command")


def whole(tree: Any) -> Any:
    """Copies arrays to every host, as numpy, whatever devices of whatever process hold their parts."""
    return jax.device_get(tree) if jax.process_count() == 1 else multihost_utils.process_allgather(tree, tiled=True)


def others_stopped(step: int) -> bool:
    """Whether this is the step at which all processes stop, after any of them got SIGTERM; to be asked before every step."""
    return multihost_utils.reached_preemption_sync_point(step)
