"""Embedding the scenes of a folder by the front door: which ones, by which bands, and nothing silent about the others."""

import json
import pathlib
import shutil

import geopandas
import pytest
import rasterio

from rsfm_jax.errors import InputError
from rsfm_jax.evaluate.scenes.embed_folder import embed_folder
from tests.evaluate.scenes import BANDS, make_model
from tests.helpers import assert_refused, run_door


@pytest.fixture(scope="module")
def scenes(repo: pathlib.Path, tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """Two dates of the Sentinel-2 series, and the radar, of which the model knows nothing."""
    folder = tmp_path_factory.mktemp("scenes")
    source = repo / "examples" / "scenes"
    shutil.copytree(source / "bouconne", folder / "bouconne")
    shutil.copytree(source / "camargue", folder / "camargue")
    text = (source / "scenes.yaml").read_text()
    head, *entries = text.split("  - id: ")
    kept = [entry for entry in entries if entry.startswith(("bouconne_20180429", "bouconne_20180708", "camargue"))]
    (folder / "scenes.yaml").write_text(head + "".join(f"  - id: {entry}" for entry in kept))
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    return make_model(tmp_path_factory.mktemp("model") / "weights", pixels=32)


def test_scenes_that_the_model_knows_are_embedded_and_the_others_named(model: pathlib.Path, scenes: pathlib.Path, tmp_path: pathlib.Path):
    words = [f"--model={model}", f"--scenes={scenes}", f"--out={tmp_path / 'out'}", "--embed=patches", "--window_px=64", "--overlap_px=16"]
    done = run_door("rsfm_jax.evaluate", *words)
    assert done.returncode == 0, done.stderr
    assert "the model knows no sentinel1_grd; it knows sentinel2_l3a" in done.stdout
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert sorted(summary["scenes"]) == ["bouconne_20180429", "bouconne_20180708"]
    assert all("sentinel1_grd" in reason for reason in summary["left_out"].values())
    with rasterio.open(tmp_path / "out" / "bouconne_20180429.tif") as file:
        assert file.count == 16
        assert file.res == (40.0, 40.0)
    again = embed_folder(model, scenes, tmp_path / "out", "patches")
    assert again["scenes"] == {}
    assert "is there already" in again["left_out"]["bouconne_20180429"]


def test_one_scene_as_chips_by_three_bands(model: pathlib.Path, scenes: pathlib.Path, tmp_path: pathlib.Path):
    found = embed_folder(model, scenes, tmp_path, "chips", ["bouconne_20180708"], BANDS[1:], chip_px=32)
    assert list(found["scenes"]) == ["bouconne_20180708"]
    assert found["left_out"] == {}
    table = geopandas.read_parquet(tmp_path / "bouconne_20180708.parquet")
    assert len(table) == found["scenes"]["bouconne_20180708"]["rows"] > 0


def test_bad_input(model: pathlib.Path, scenes: pathlib.Path, tmp_path: pathlib.Path):
    out = tmp_path / "out"
    with pytest.raises(InputError, match="--embed=patch: must be one of patches, chips"):
        embed_folder(model, scenes, out, "patch")
    with pytest.raises(InputError, match=r"--scene=bouconne_2018: not in .*; did you mean 'bouconne_20180"):
        embed_folder(model, scenes, out, "chips", ["bouconne_2018"])
    with pytest.raises(InputError, match=r"scene 'camargue.*': the model knows no sentinel1_grd"):
        embed_folder(model, scenes, out, "chips", [name for name in _names(scenes) if name.startswith("camargue")])
    with pytest.raises(InputError, match="has no band B99; it has B02, B03"):
        embed_folder(model, scenes, out, "chips", ["bouconne_20180708"], ["B99"])
    with pytest.raises(InputError, match=r"holds no config\.json; give the folder that"):
        embed_folder(tmp_path, scenes, out, "chips")
    assert not out.exists()
    assert_refused(run_door("rsfm_jax.evaluate", f"--model={model}", "--embed=chips"), "--scenes is missing")


def _names(scenes: pathlib.Path) -> list[str]:
    return [line.split()[-1] for line in (scenes / "scenes.yaml").read_text().splitlines() if line.startswith("  - id:")]
