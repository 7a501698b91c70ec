import pathlib

import pytest

from tests.helpers import assert_refused, run_door

DEMO = "--config=configs/demo.py"


def _ingest(tmp_path: pathlib.Path, *flags: str):
    done = run_door("rsfm_jax.ingest", "--scenes=examples/scenes", f"--out={tmp_path / 'out'}", *flags)
    assert done.returncode == 0 or not list(tmp_path.glob("out*"))
    return done


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--scnes=x"], ["unknown flag --scnes", "did you mean 'scenes'?"]),
        (["stray"], ["unexpected argument 'stray'", "--name=value"]),
        (["--config=configs/dmo.py"], ["--config=configs/dmo.py: no such file", "did you mean 'demo.py'?"]),
        (["--config="], ["--config is empty", "--config=configs/demo.py"]),
        (["--config"], ["--config is empty"]),
        ([f"{DEMO}:huge"], ["--config=configs/demo.py:huge", "get_config() takes 0 positional arguments"]),
        ([DEMO, "--config.mask.ratoi=0.5"], ["--config.mask.ratoi", "config.mask has no field 'ratoi'", "did you mean 'ratio'?"]),
        ([DEMO, "--config.msk.ratio=0.5"], ["--config.msk.ratio", "config has no field 'msk'", "did you mean 'mask'?"]),
        ([DEMO, "--config.mask.ratio.x=0.5"], ["--config.mask.ratio.x", "config.mask.ratio has no field 'x'", "it has no fields"]),
        ([DEMO, "--config.mask.ratio=much"], ["--config.mask.ratio=much", "could not convert string to float"]),
        ([DEMO, "--config.train.steps=1.5"], ["--config.train.steps=1.5", "invalid literal for int"]),
        ([DEMO, "--config.mask=0.5"], ["--config.mask", "is a section", "ratio, anchor"]),
        ([DEMO, "--config.mask.ratio"], ["--config.mask.ratio=VALUE"]),
        ([DEMO, "--config.ingest.layouts[9].name=x"], ["config.ingest.layouts has no element [9]"]),
        ([DEMO, "--config.mask.table[1]=any: full"], ["--config.mask.table[1]", "set the whole of it"]),
        ([DEMO, "--config.mask.table=('senser=same: full', 'any: full')"], ["no relation 'senser'", "did you mean 'sensor'?"]),
        ([DEMO, "--config.mask.ratio=1.5"], ["config.mask.ratio=1.5: must be between 0 and 1"]),
        (["--config.mask.ratio=0.5"], ["--config.mask.ratio=0.5: needs --config=FILE"]),
    ],
    ids=lambda value: " ".join(value[-1:]),
)
def test_a_wrong_command_line_is_one_line_and_exit_code_2(tmp_path, flags, words):
    assert_refused(_ingest(tmp_path, *flags), *words)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("def get_config():\n    return {}\n", ["get_config() returned dict", "rsfm_jax.config.Config"]),
        ("def get_config():\n    raise ValueError('no such variant')\n", ["ValueError: no such variant", "line 2, in get_config"]),
        ("def get_config(:\n", ["invalid syntax (broken.py, line 1)"]),
    ],
)
def test_a_broken_config_file_is_one_line(tmp_path, text, words):
    (tmp_path / "broken.py").write_text(text)
    assert_refused(_ingest(tmp_path, f"--config={tmp_path / 'broken.py'}"), *words)


@pytest.mark.parametrize("flag", ["--scenes", "--out"])
def test_a_missing_flag_comes_with_an_example(tmp_path, flag):
    given = {"--scenes": "examples/scenes", "--out": str(tmp_path / "out")}
    del given[flag]
    assert_refused(run_door("rsfm_jax.ingest", *(f"{name}={value}" for name, value in given.items())), f"{flag} is missing", f"{flag}=")


def test_overrides_reach_the_work(tmp_path):
    done = _ingest(tmp_path, DEMO, "--config.ingest.layouts[3].name=radar", "--config.ingest.val_share=0.0", "--config.ingest.seed=5")
    assert done.returncode == 0, done.stderr
    assert "radar" in done.stdout
    assert '"seed": 5' in (tmp_path / "out" / "dataset.json").read_text()


def test_help_names_the_flags():
    done = run_door("rsfm_jax.ingest", "--help")
    assert done.returncode == 0
    assert "--scenes" in done.stdout
    assert "--out" in done.stdout
