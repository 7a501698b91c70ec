"""The front door as a user runs it: one table, three files, exit code 2 and one line for what is wrong."""

import json
import pathlib

import pytest

pytest.importorskip("torch", reason="no CPU wheel of PyTorch for this Python")
pytest.importorskip("sklearn", reason="the extra that evaluates is not installed")

from tests.evaluate.small_scene import image, points, write_labels, write_model, write_scene, write_task
from tests.helpers import assert_refused, run_door


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> pathlib.Path:
    made = tmp_path_factory.mktemp("door")
    write_labels(made, write_scene(made))
    write_model(made / "weights")
    write_model(made / "other")
    return made


def test_a_table_with_the_baselines_beside_the_model(folder, tmp_path):
    task = write_task(tmp_path, seeds=[0], source=points())
    out = tmp_path / "new" / "out"
    flags = [
        f"--model={folder / 'weights'}",
        f"--model={folder / 'other'}",
        f"--task={task}",
        f"--data_root={folder}",
        f"--out={out}",
        "--batch_size=16",
    ]
    done = run_door("rsfm_jax.evaluate", *flags)
    assert done.returncode == 0, done.stderr
    for words in (
        "weights, -1, mean, linear",
        "other, -1, mean, linear",
        "random init of weights, -1, mean, linear",
        "raw_pixels, linear",
        "none, class_frequencies",
    ):
        assert words in done.stdout
    assert "nodata at the pixel" in done.stdout
    assert sorted(file.name for file in out.iterdir()) == ["features", "report.html", "results.json", "rows.csv"]
    best = json.loads((out / "results.json").read_text())["means"][0]
    assert best["accuracy"] > 0.8
    assert f"{best['accuracy']:.4f}" in done.stdout


@pytest.mark.parametrize(
    ("flags", "changes", "words"),
    [
        (["--modle=x"], {}, ["unknown flag --modle", "did you mean 'model'?"]),
        (["--model="], {}, ["--model is missing", "--model=weights"]),
        (["--batch_size=0"], {}, ["--batch_size=0: must be at least 1"]),
        ([], {"source": points(images=[image(scale=1.0, offset=0.0)])}, ["'B02'", "are outside [-0.2, 2] reflectance"]),
    ],
    ids=lambda value: str(value)[:30],
)
def test_what_is_wrong_is_one_line(folder, tmp_path, flags, changes, words):
    task = write_task(tmp_path, **changes)
    given = [f"--model={folder / 'weights'}", f"--task={task}", f"--data_root={folder}", f"--out={tmp_path / 'out'}"]
    kept = [word for word in given if not any(flag.split("=")[0] == word.split("=")[0] for flag in flags)]
    assert_refused(run_door("rsfm_jax.evaluate", *kept, *flags), *words)
    assert not (tmp_path / "out" / "results.json").exists()
