"""Output folders that appear whole or not at all."""

from collections.abc import Iterator
import contextlib
import pathlib
import tempfile

from rsfm_jax.errors import InputError


def check_free(out: pathlib.Path, flag: str) -> None:
    """Raises `InputError` when an output folder already holds something."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"--{flag}={out}: already holds something; choose another folder, or delete it first")


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
        for parent in made:  # nearest first
            with contextlib.suppress(OSError):
                parent.rmdir()
        raise
