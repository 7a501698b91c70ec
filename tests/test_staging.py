import pytest

from rsfm_jax.errors import InputError
from rsfm_jax.staging import check_free, new_folder


def test_the_folder_appears_whole_with_its_parents(tmp_path):
    with new_folder(tmp_path / "a" / "b", "out") as folder:
        (folder / "file").write_text("x")
        assert not (tmp_path / "a" / "b").exists()
    assert (tmp_path / "a" / "b" / "file").read_text() == "x"
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["b"]


def _fail(out, error):
    with new_folder(out, "out") as folder:
        (folder / "file").write_text("x")
        raise error


@pytest.mark.parametrize("error", [InputError, KeyboardInterrupt, SystemExit])
def test_nothing_is_left_when_the_work_fails_not_even_parents(tmp_path, error):
    with pytest.raises(error):
        _fail(tmp_path / "a" / "b", error)
    assert list(tmp_path.iterdir()) == []


def test_an_empty_folder_is_taken_and_a_full_one_is_refused(tmp_path):
    (tmp_path / "a").mkdir()
    with new_folder(tmp_path / "a", "out") as folder:
        (folder / "file").write_text("x")
    with pytest.raises(InputError, match="already holds something"):
        check_free(tmp_path / "a", "out")


def test_a_place_below_a_file_is_refused(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match="cannot be made"):
        _fail(tmp_path / "file" / "b", RuntimeError)
