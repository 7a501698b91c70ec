"""Pieces of an unfinished output: what goes on, what is refused, what is cleaned up."""

import json
import pathlib
import subprocess
import sys

import numpy as np
import pytest

from rsfm_jax.errors import InputError
from rsfm_jax.evaluate.scenes.pieces import open_pieces

ARGUMENTS = {"model": "abc", "windows": {"side": 16, "overlap": 4}, "names": ("a", "b")}


def interrupted(out: pathlib.Path, until: int) -> None:
    """A run that ends by an exception after so many pieces."""
    with open_pieces(out, ARGUMENTS) as pieces:
        for k in range(until):
            pieces.commit({"values": np.full(3, k)}, {"sums": np.full(2, 10 * k)}, {"windows": k + 1})
        raise KeyboardInterrupt


def commit(out: pathlib.Path, until: int) -> None:
    with pytest.raises(KeyboardInterrupt):
        interrupted(out, until)


def test_an_interrupted_run_goes_on(tmp_path):
    out, folder = tmp_path / "deeper" / "out.tif", tmp_path / "deeper" / ".out.tif-unfinished"
    commit(out, 2)
    (folder / "piece_000002.npz").write_bytes(b"half a pie")  # written, and killed before it was committed
    (folder / "carry_000002.npz").write_bytes(b"half")
    with open_pieces(out, ARGUMENTS) as pieces:
        assert pieces.done == 2
        assert pieces.counts == {"windows": 2}
        assert pieces.carry()["sums"].tolist() == [10, 10]
        assert pieces.read(0)["values"].tolist() == [0, 0, 0]
        pieces.commit({"values": np.full(3, 2)}, {}, {"windows": 3})
        assert sorted(file.name for file in folder.glob("carry*")) == ["carry_000002.npz"]
        assert pieces.read(2)["values"].tolist() == [2, 2, 2]
        (folder / "whole").write_text("all of it")
        pieces.finish(folder / "whole")
    assert out.read_text() == "all of it"
    assert list(out.parent.iterdir()) == [out]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": "xyz"}, 'model was "abc" and is "xyz"'),
        ({"windows": {"side": 32, "overlap": 4}}, 'windows was {"side": 16, "overlap": 4} and is {"side": 32, "overlap": 4}'),
        ({"dtype": "float16"}, 'dtype was null and is "float16"'),
    ],
)
def test_other_arguments_are_refused_and_nothing_is_lost(tmp_path, change, message):
    out = tmp_path / "out.tif"
    commit(out, 2)
    with pytest.raises(InputError) as refused, open_pieces(out, ARGUMENTS | change):
        pass
    assert message in str(refused.value)
    assert "2 finished pieces" in str(refused.value)
    assert "delete that folder" in str(refused.value)
    with open_pieces(out, ARGUMENTS) as pieces:
        assert pieces.done == 2


def test_a_run_that_finished_nothing_leaves_nothing(tmp_path):
    commit(tmp_path / "out.tif", 0)
    assert list(tmp_path.iterdir()) == []


def test_an_output_that_exists_is_not_replaced(tmp_path):
    (tmp_path / "out.tif").write_text("precious")
    with pytest.raises(InputError, match=r"out.tif: exists already"), open_pieces(tmp_path / "out.tif", {}):
        pass
    assert [file.name for file in tmp_path.iterdir()] == ["out.tif"]


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be made"), open_pieces(tmp_path / "file" / "out.tif", {}):
        pass


def test_two_processes_do_not_write_the_same_output(tmp_path):
    out = tmp_path / "out.tif"
    code = (
        "import sys, pathlib; from rsfm_jax.errors import InputError; from rsfm_jax.evaluate.scenes.pieces import open_pieces\n"
        "try:\n    open_pieces(pathlib.Path(sys.argv[1]), {}).__enter__()\nexcept InputError as error:\n    print(error)\n"
    )
    with open_pieces(out, {}) as pieces:
        other = subprocess.run([sys.executable, "-c", code, out], capture_output=True, text=True, check=True)
        assert "another process is writing it now" in other.stdout
        pieces.commit({}, {}, {})
        assert json.loads((pieces.folder / "progress.json").read_text())["done"] == 1
