"""Unfinished outputs on disk: finished pieces beside the output, and a progress file from which a killed run goes on.

A piece is committed by replacing the progress file, after the piece itself and what the next one continues from are on disk. So at any
moment the progress file names only what is whole, and a run killed at any moment repeats at most the piece it was at.
"""

from collections.abc import Callable, Iterator, Mapping
import contextlib
import fcntl
import json
import os
import pathlib
import shutil
from typing import IO, Any

import numpy as np

from rsfm_jax.errors import InputError

Arrays = Mapping[str, np.ndarray]
_PROGRESS = "progress.json"


class Pieces:
    """Pieces of one output, numbered from 0 in the order in which they are made; made by `open_pieces`.

    Attributes:
      folder: Where they are until the output is whole.
      done: How many are finished.
      counts: What was counted on the way, kept over restarts.
    """

    def __init__(self, out: pathlib.Path, folder: pathlib.Path, arguments: dict[str, Any]) -> None:
        self._out, self.folder, self._arguments = out, folder, arguments
        self.done, self.counts = 0, dict[str, int]()
        progress = folder / _PROGRESS
        if progress.exists():
            found = json.loads(progress.read_text())
            self.done, self.counts = found["done"], found["counts"]
            self._check_same(found["arguments"])

    def _check_same(self, before: dict[str, Any]) -> None:
        names = [name for name in {**before, **self._arguments} if before.get(name) != self._arguments.get(name)]
        if names:
            changes = "; ".join(f"{name} was {_short(before.get(name))} and is {_short(self._arguments.get(name))}" for name in names)
            raise InputError(
                f"{self._out}: {self.folder} holds {self.done} finished pieces of a run with other arguments ({changes}); "
                "give the same ones to go on, or delete that folder to begin anew"
            )

    def carry(self) -> dict[str, np.ndarray]:
        """What the next piece continues from, as committed with the last one; empty before the first."""
        return _load(self._carry(self.done - 1)) if self.done else {}

    def read(self, number: int) -> dict[str, np.ndarray]:
        """A finished piece."""
        return _load(self._piece(number))

    def commit(self, piece: Arrays, carry: Arrays, counts: Mapping[str, int]) -> None:
        """Keeps the next piece, what the one after it continues from, and the counts so far."""
        _write_whole(self._piece(self.done), lambda file: np.savez(file, allow_pickle=False, **piece))
        _write_whole(self._carry(self.done), lambda file: np.savez(file, allow_pickle=False, **carry))
        self.done, self.counts = self.done + 1, dict(counts)
        progress = {"done": self.done, "counts": self.counts, "arguments": self._arguments}
        _write_whole(self.folder / _PROGRESS, lambda file: file.write(json.dumps(progress, indent=1).encode()))
        self._carry(self.done - 2).unlink(missing_ok=True)

    def finish(self, whole: pathlib.Path) -> None:
        """Moves the whole output, a file in the folder, to its place and removes the folder."""
        with whole.open("rb") as file:
            os.fsync(file.fileno())
        whole.replace(self._out)
        shutil.rmtree(self.folder)

    def _piece(self, number: int) -> pathlib.Path:
        return self.folder / f"piece_{number:06d}.npz"

    def _carry(self, number: int) -> pathlib.Path:
        return self.folder / f"carry_{number:06d}.npz"


@contextlib.contextmanager
def open_pieces(out: pathlib.Path, arguments: dict[str, Any]) -> Iterator[Pieces]:
    """Opens the pieces of an output file: none, or those that a killed run left.

    Args:
      out: The output file; must not exist.
      arguments: JSON of all that decides over the output's values; a run goes on only with the same.

    Yields:
      The pieces; their folder stays when the block raises, unless none is finished.

    Raises:
      InputError: the output exists, its folder cannot be written, another process writes it, or the arguments have changed.
    """
    if out.exists():
        raise InputError(f"{out}: exists already; choose another name, or delete it first")
    folder = out.parent / f".{out.name}-unfinished"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / "lock").open("w")
    except OSError as error:
        raise InputError(f"{out}: {folder} cannot be made ({error.strerror}); choose another folder") from None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(f"{out}: another process is writing it now; wait for it, or choose another name") from None
        if out.exists():
            raise InputError(f"{out}: another process has just written it; choose another name, or delete it first")
        pieces = Pieces(out, folder, json.loads(json.dumps(arguments)))
        try:
            yield pieces
        except BaseException:
            if pieces.done == 0:
                shutil.rmtree(folder)
            raise


def _write_whole(path: pathlib.Path, write: Callable[[IO[bytes]], Any]) -> None:
    unfinished = path.with_name(f"{path.name}.unfinished")
    with unfinished.open("wb") as file:
        write(file)
        file.flush()
        os.fsync(file.fileno())
    unfinished.replace(path)


def _load(path: pathlib.Path) -> dict[str, np.ndarray]:
    with np.load(path) as arrays:
        return dict(arrays)


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 200 else f"{text[:200]}..."
