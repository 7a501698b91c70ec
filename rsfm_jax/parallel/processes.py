"""A run's processes: how they find each other, what only the first does, and what all must agree on.

Every host of a pod, node of a cluster or task of Slurm runs the same command; JAX joins their devices into one mesh.
"""

from collections.abc import Callable, Iterator
import contextlib
import json
import os
import sys
import threading
from typing import Any
import zlib

import jax
from jax.experimental import multihost_utils
import numpy as np

from rsfm_jax.errors import EXIT_BAD_INPUT, EXIT_CRASHED, InputError, first_line

_PATIENT_S = 60  # JAX's own patience ends later than ours: it ends in an abort with a stack trace
_LONGER = "--join_timeout_s=N waits longer"


def join(coordinator: str, count: int | None, index: int | None, cluster: bool, timeout_s: int) -> None:
    """Joins the processes of a run; does nothing for a run of one. Must come before anything touches a device.

    Args:
      coordinator: ``host:port`` of process 0, for processes started by hand; empty otherwise.
      count: Number of processes, with ``coordinator``.
      index: This process's number, with ``coordinator``.
      cluster: Whether Cloud TPU, GKE, Slurm or Open MPI started the processes; JAX asks them.
      timeout_s: How long to wait for the others, seconds. Then the process ends with a message: with exit code 2 where someone typed the
        address, with 1 (which babysitters try again) where the cluster gave it.

    Raises:
      InputError: flags that do not go together, or no such cluster.
    """
    if timeout_s < 1:
        raise InputError(f"--join_timeout_s={timeout_s}: must be at least 1")
    if not coordinator:
        if count is not None or index is not None:
            raise InputError("--process_count and --process_index need --coordinator=HOST:PORT, the address of process 0")
        if cluster:
            try:
                with _at_most(timeout_s, f"--cluster: not all processes came in {timeout_s} s; {_LONGER}", EXIT_CRASHED):
                    jax.distributed.initialize(initialization_timeout=timeout_s + _PATIENT_S)
            except jax.errors.JaxRuntimeError as error:
                print(f"error: --cluster: the processes could not join ({first_line(error)})", file=sys.stderr, flush=True)
                sys.exit(EXIT_CRASHED)
            except (ValueError, RuntimeError) as error:
                raise InputError(
                    f"--cluster: JAX finds no cluster here ({first_line(error)}); inside Slurm start with srun, elsewhere give "
                    "--coordinator, --process_count and --process_index"
                ) from None
        return
    host, colon, port = coordinator.rpartition(":")
    if cluster:
        raise InputError("--cluster asks the cluster for the coordinator; leave out --coordinator")
    if not (host and colon and port.isdigit() and 0 < int(port) < 2**16):
        raise InputError(f"--coordinator={coordinator}: must be HOST:PORT, for instance 10.0.0.2:8476")
    if count is None or index is None or not 0 <= index < count:
        raise InputError(
            f"--coordinator={coordinator}: needs --process_count (given: {count}) and --process_index (given: {index}) from 0 to one less"
        )
    late = f"process 0 does not answer in {timeout_s} s; start it there, and open the port to the other hosts"
    if index == 0:
        late = f"not all of {count} processes came in {timeout_s} s; start those with --process_index=1 to {count - 1}, with this address"
    with _at_most(timeout_s, f"--coordinator={coordinator}: {late}; {_LONGER}", EXIT_BAD_INPUT):
        try:
            jax.distributed.initialize(coordinator, count, index, initialization_timeout=timeout_s + _PATIENT_S)
        except RuntimeError as error:
            hint = "is the port free?" if index == 0 else "does each process have its own --process_index?"
            raise InputError(f"--coordinator={coordinator}: cannot be used ({first_line(error)}); {hint}") from None


@contextlib.contextmanager
def _at_most(seconds: int, message: str, code: int) -> Iterator[None]:
    """Ends the process with a message and an exit code where the block takes longer."""

    def give_up() -> None:
        print(f"error: {message}", file=sys.stderr, flush=True)
        os._exit(code)

    timer = threading.Timer(seconds, give_up)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


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
