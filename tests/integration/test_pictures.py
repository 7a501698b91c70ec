"""The pictures of the docs: made by one command, small, and true to the masks."""

import json
import os
import pathlib
import shutil
import subprocess
import sys

import numpy as np
from PIL import Image
import pytest

from tests.helpers import REPO, assert_refused

NAMES = ("masks", "masks_consistent", "masks_independent", "masks_complementary", "masks_full", "positions")
MARGIN, HEAD, FOOT = 16, 92, 46  # of examples/pictures.py
SIZE, CHIP = 291, 288  # 727.5 m of ground that the three Landsat members cover together, and the 720 m of each, at 2.5 m
GREY, LINES = (122, 122, 130), (98, 98, 106)


def run_pictures(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "examples/pictures.py", *words]
    return subprocess.run(
        command, cwd=REPO, env=os.environ | {"JAX_PLATFORMS": "cpu"}, capture_output=True, text=True, timeout=180, check=False
    )


@pytest.fixture(scope="module")
def pictures(demo_dataset: pathlib.Path, tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    out = tmp_path_factory.mktemp("pictures") / "new" / "folder"
    done = run_pictures(f"--data={demo_dataset}", f"--out={out}")
    assert done.returncode == 0, done.stderr
    return out


def hidden_pixels(file: pathlib.Path, row: int) -> list[np.ndarray]:
    """Where the three Landsat members of a row of a picture are grey, bool (H, W) each; the first row hides nothing."""
    picture = np.asarray(Image.open(file).convert("RGB"))
    top = HEAD + row * (HEAD + SIZE + FOOT)
    tiles = [picture[top : top + SIZE, MARGIN + t * (SIZE + MARGIN) :][:, :SIZE] for t in range(3)]
    return [(tile == GREY).all(axis=-1) | (tile == LINES).all(axis=-1) for tile in tiles]


def test_all_pictures_are_there_and_small(pictures: pathlib.Path):
    assert sorted(file.name for file in pictures.iterdir()) == sorted(f"{name}.png" for name in NAMES)
    sizes = [file.stat().st_size for file in pictures.iterdir()]
    assert max(sizes) < 200_000
    assert sum(sizes) < 1_000_000


@pytest.mark.parametrize("name", ["masks", "masks_consistent"])
def test_consistent_hides_the_same_ground_on_one_grid(pictures: pathlib.Path, name: str):
    landsat8, sharp, landsat7 = hidden_pixels(pictures / f"{name}.png", 1)
    np.testing.assert_array_equal(landsat8, landsat7)
    assert 0.7 < landsat8[:CHIP, :CHIP].mean() < 0.76  # 27 of 36 patches, but for the outlines around the others
    in_place, moved = (landsat8[:-3, :-3] == member for member in (sharp[:-3, :-3], sharp[3:, 3:]))
    assert in_place.mean() < moved.mean()  # the 15 m band hides the same patches; its own pixel grid lies 7.5 m to the south-east


def test_other_policies_hide_other_ground(pictures: pathlib.Path):
    _, _, full = hidden_pixels(pictures / "masks_full.png", 1)
    assert full[:CHIP, :CHIP].mean() > 0.95  # all but the outlines
    anchor, _, complement = hidden_pixels(pictures / "masks_complementary.png", 1)
    assert complement.mean() < 0.8 * full.mean()
    np.testing.assert_array_equal(anchor | complement, full)  # no ground is shown twice
    anchor, _, drawn_anew = hidden_pixels(pictures / "masks_independent.png", 1)
    assert (anchor != drawn_anew).any()
    assert ((anchor | drawn_anew) != full).any()
    assert max(member.mean() for member in hidden_pixels(pictures / "masks.png", 0)) < 0.01


def test_the_rows_of_all_policies_are_their_own_pictures(pictures: pathlib.Path):
    for row, policy in enumerate(("consistent", "independent", "complementary", "full"), start=1):
        for ours, theirs in zip(
            hidden_pixels(pictures / "masks.png", row), hidden_pixels(pictures / f"masks_{policy}.png", 1), strict=True
        ):
            np.testing.assert_array_equal(ours, theirs)


def test_the_docs_show_these_masks(pictures: pathlib.Path):
    """If not: python examples/pictures.py --data=demo/data --out=docs/pictures."""
    for row in range(1, 5):
        fresh, kept = (hidden_pixels(folder / "masks.png", row) for folder in (pictures, REPO / "docs" / "pictures"))
        np.testing.assert_array_equal(fresh, kept)


def test_without_a_dataset(tmp_path: pathlib.Path):
    done = run_pictures(f"--data={tmp_path / 'nowhere'}", f"--out={tmp_path / 'out'}")
    command = f"python -m rsfm_jax.ingest --scenes=examples/scenes --out={tmp_path / 'nowhere'} --config=configs/demo.py"
    assert_refused(done, f"--data={tmp_path / 'nowhere'}: no dataset there", command)
    assert not (tmp_path / "out").exists()


def test_with_another_dataset(demo_dataset: pathlib.Path, tmp_path: pathlib.Path):
    copy = shutil.copytree(demo_dataset, tmp_path / "copy")
    fields = json.loads((copy / "dataset.json").read_text())
    fields["layouts"] = [layout for layout in fields["layouts"] if layout["name"] != "sentinel2_13_bands"]
    (copy / "dataset.json").write_text(json.dumps(fields))
    done = run_pictures(f"--data={copy}", f"--out={tmp_path / 'out'}")
    assert_refused(done, "has no layout 'sentinel2_13_bands'", "python -m rsfm_jax.ingest --scenes=examples/scenes")
    assert not (tmp_path / "out").exists()
