"""Output folders that appear whole or not at all."""

from collections.abc import Iterator
import contextlib
import fcntl
import pathlib
import shutil
import sys
import tempfile

from rsfm_jax.errors import InputError


def check_free(out: pathlib.Path, flag: str) -> None:
    """Raises `InputError` when an output folder already holds something."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"--{flag}={out}: already holds something; choose another folder, or delete it first")


@contextlib.contextmanager
def resumable_folder(out: pathlib.Path, flag: str, asked: str) -> Iterator[pathlib.Path]:
    """A folder to write into, moved to its place at the end of the block; after a kill the same call goes on in it.

    It is beside ``out`` and named after it, so that two programs cannot write it at once. Nothing is left when the block raises
    `InputError`; anything else that ends it leaves what is there for the next call.

    Args:
      out: The folder to make; must not exist, or be empty.
      flag: Name of the flag that ``out`` was given by, for messages.
      asked: Digest of all that the content depends on: what another call left is taken up only where it is equal.

    Yields:
      The folder, with what an earlier call left.

    Raises:
      InputError: ``out`` holds something, or cannot be made; another program is at work on it, or one that was asked for something else
        was killed there.
    """
    check_free(out, flag)
    unfinished = out.absolute().parent / f".{out.name}-unfinished"
    made = [parent for parent in unfinished.parents if not parent.exists()]
    try:
        unfinished.mkdir(parents=True, exist_ok=True)
        lock = (unfinished / "asked").open("a+")
    except OSError as error:
        raise InputError(f"--{flag}={out}: cannot be made ({error.strerror}); choose another folder") from None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(f"--{flag}={out}: another program is writing it (in {unfinished}); choose another folder") from None
        lock.seek(0)
        before = lock.read()
        if before not in ("", asked):
            raise InputError(
                f"--{flag}={out}: {unfinished} is what a run of other input or another config left unfinished; "
                "repeat that command to go on with it, or delete the folder"
            )
        lock.write("" if before else asked)
        lock.flush()
        try:
            yield unfinished
        except InputError:
            shutil.rmtree(unfinished)
            _remove(made)
            raise
        except BaseException:
            print(f"what is done is kept in {unfinished}; the same command goes on with it", file=sys.stderr)
            raise
        (unfinished / "asked").unlink()
        if out.exists():
            out.rmdir()
        unfinished.rename(out)


def _remove(folders: list[pathlib.Path]) -> None:
    """Removes empty folders, the innermost first."""
    for folder in folders:
        with contextlib.suppress(OSError):
            folder.rmdir()


@contextlib.contextmanager
def new_folder(out: pathlib.Path, flag: str) -> Iterator[pathlib.Path]:
    """A folder to write into, moved to its place at the end of the block; nothing is left when the block raises.

    Args:
      out: The folder to make; must not exist, or be empty.
      flag: Name of the flag that ``out`` was given by, for messages.

    Yields:
      A temporary folder beside ``out``.

    Raises:
      InputError: ``out`` holds something, or cannot be made.
    """
    check_free(out, flag)
    made = [parent for parent in out.absolute().parents if not parent.exists()]
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        staging = tempfile.TemporaryDirectory(prefix=f".{out.name}-unfinished-", dir=out.parent)
    except OSError as error:
        raise InputError(f"--{flag}={out}: cannot be made ({error.strerror}); choose another folder") from None
    try:
        with staging as folder:
            unfinished = pathlib.Path(folder) / "whole"
            unfinished.mkdir()
            yield unfinished
            if out.exists():
                out.rmdir()
            unfinished.rename(out)
    except BaseException:
        _remove(made)
        raise
