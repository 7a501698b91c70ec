"""A map over pickled inputs in a folder: in this process, or on Apache Beam with whatever runner its options name.

Each task reads ``NAME.input`` and writes ``NAME.output``, which appears whole or not at all, so that a run that was killed goes on with the
tasks that have no output. What a task gives depends on its input alone, hence not on the number of workers.
"""

from collections.abc import Callable, Iterator, Sequence
import contextlib
import functools
import os
import pickle
import sys
import tempfile
from typing import Any

from etils import epath

from rsfm_jax.errors import InputError


def put(folder: epath.Path, name: str, value: Any) -> None:
    """Writes the input of a task; of one that has an output it is not asked for again."""
    _write_whole(folder / f"{name}.input", value)


def result(folder: epath.Path, name: str) -> Any:
    """What a task that has been run gave; raises the `InputError` that it ended with."""
    value = pickle.loads((folder / f"{name}.output").read_bytes())
    if isinstance(value, InputError):
        raise value
    return value


def is_done(folder: epath.Path, name: str) -> bool:
    """Whether a task has an output."""
    return (folder / f"{name}.output").exists()


def run_tasks(folder: epath.Path, names: Sequence[str], do: Callable[[Any], Any], beam_args: Sequence[str] | None) -> None:
    """Runs the tasks that have no output yet.

    Args:
      folder: Where inputs are and outputs go; one that all workers see.
      names: The tasks.
      do: Makes an output of an input; picklable. An `InputError` that it raises ends the run.
      beam_args: Options of Apache Beam, as ``["--runner=DirectRunner", "--direct_num_workers=4"]``; None runs in this
        process, and so does a task that is alone.

    Raises:
      InputError: A task raised it, or Apache Beam is asked for and not installed.
    """
    todo = [name for name in names if not is_done(folder, name)]
    if len(todo) < len(names):
        print(f"{len(names) - len(todo)} of {len(names)} tasks were done by a run before")
    if beam_args is None or len(todo) == 1:
        for name in todo:
            _do_one(name, folder, do)
            result(folder, name)
        return
    if not todo:
        return
    with _standard_error_to(folder / "beam.log"):
        _run_on_beam(folder, todo, do, beam_args)
    for name in todo:
        result(folder, name)


def _run_on_beam(folder: epath.Path, todo: Sequence[str], do: Callable[[Any], Any], beam_args: Sequence[str]) -> None:
    try:
        import apache_beam as beam
        from apache_beam.options.pipeline_options import PipelineOptions
    except ImportError:
        raise InputError("workers need Apache Beam: pip install 'rsfm_jax[beam]', or leave --workers and what is after -- out") from None
    with beam.Pipeline(options=PipelineOptions(list(beam_args))) as pipeline:
        _ = pipeline | beam.Create(todo) | beam.Reshuffle() | beam.Map(functools.partial(_do_one, folder=folder, do=do))


def beam_arguments(workers: int, rest: Sequence[str]) -> list[str] | None:
    """Beam's options of a front door: what stands after ``--``, or this machine's processes where ``--workers`` is above 1.

    Args:
      workers: Of ``--workers``.
      rest: Words after ``--``, as ``--runner=DataflowRunner``.

    Returns:
      Options for `run_tasks`.

    Raises:
      InputError: Both are given, or a number of workers below 1.
    """
    if workers < 1:
        raise InputError(f"--workers={workers}: must be at least 1")
    if rest and workers > 1:
        raise InputError(
            f"--workers={workers} and options of Beam ({rest[0]}) are both given; give one, as -- --direct_num_workers={workers}"
        )
    if rest:
        return list(rest)
    if workers == 1:
        return None
    return ["--runner=DirectRunner", "--direct_running_mode=multi_processing", f"--direct_num_workers={workers}"]


@contextlib.contextmanager
def _standard_error_to(file: epath.Path) -> Iterator[None]:
    """Sends what this process and those it starts write to standard error into a local file: Beam's workers tell all that they do."""
    with tempfile.TemporaryFile() as log:
        sys.stderr.flush()
        before = os.dup(2)
        os.dup2(log.fileno(), 2)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(before, 2)
            os.close(before)
            log.seek(0)
            file.write_bytes(log.read())


def _do_one(name: str, folder: epath.Path, do: Callable[[Any], Any]) -> None:
    try:
        value = do(pickle.loads((folder / f"{name}.input").read_bytes()))
    except InputError as error:
        value = error
    _write_whole(folder / f"{name}.output", value)


def _write_whole(path: epath.Path, value: Any) -> None:
    unfinished = path.with_name(f"{path.name}.unfinished")
    unfinished.write_bytes(pickle.dumps(value, protocol=pickle.HIGHEST_PROTOCOL))
    unfinished.replace(path)
