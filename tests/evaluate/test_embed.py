"""Whole-scene outputs of an encoder's folder: values, ground, gaps, restarts, wrong input."""

import dataclasses
import hashlib
import json
import pathlib
import shutil
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import rasterio

torch = pytest.importorskip("torch", reason="no CPU wheel of PyTorch for this Python")
geopandas = pytest.importorskip("geopandas")

from pyarrow import parquet  # noqa: E402
from rasterio import warp  # noqa: E402
from safetensors.torch import load_file, save_file  # noqa: E402

from rsfm_jax.errors import InputError  # noqa: E402
from rsfm_jax.evaluate.scenes.embed import embed_chips, embed_scene, map_scene  # noqa: E402
from rsfm_jax.ingest.describe import find_scenes  # noqa: E402
from rsfm_jax.torch.modeling_rsfm import RSFMEncoder  # noqa: E402
from tests.evaluate.scenes import BANDS, GSD, LEFT, PATCH, SENSOR, TOP, WIDTH, digital_numbers, make_model, make_scene, physical  # noqa: E402
from tests.helpers import REPO, scene, write_scenes_yaml  # noqa: E402


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    return make_model(tmp_path_factory.mktemp("model") / "weights")


def own_output(model: pathlib.Path, dn: np.ndarray, row: int, column: int, side: int) -> Any:
    """What the encoder says of one window, called as docs/export.md shows; footprint by rasterio's transform."""
    values, valid = physical(dn)
    fill = ((0, 0), (0, max(0, row + side - dn.shape[1])), (0, max(0, column + side - dn.shape[2])))
    there = np.s_[None, :, row : row + side, column : column + side]
    left, top, extent = LEFT + column * GSD, TOP - row * GSD, side * GSD
    xs, ys = [left, left + extent, left + extent, left], [top, top, top - extent, top - extent]
    corners = np.stack(warp.transform("EPSG:32618", "EPSG:4326", xs, ys), axis=1)
    member = {"sensor": SENSOR, "bands": BANDS, "gsd_m": GSD}
    member |= {"values": torch.from_numpy(np.pad(values, fill)[there]), "valid": torch.from_numpy(np.pad(valid, fill)[there])}
    with torch.inference_mode():
        return RSFMEncoder.from_folder(model)([member], torch.from_numpy(corners)[None])


@pytest.mark.parametrize(("dtype", "atol"), [("float32", 1e-5), ("float16", 5e-3)])
def test_a_scene_of_one_window_is_the_encoders_own_output(tmp_path, model, dtype, atol):
    out = tmp_path / "out.tif"
    summary = embed_scene(model, make_scene(tmp_path, 45, 62, border=9), out, window_px=64, dtype=dtype)
    dn = digital_numbers(45, 62, border=9)
    expected = own_output(model, dn, 0, 0, 64)
    real = expected.real.unflatten(1, (16, 16))[0, :12, :16].numpy()
    with rasterio.open(out) as dataset:
        values = dataset.read()
        assert np.isnan(dataset.nodata)
        assert dataset.dtypes[0] == "float32"
        assert (dataset.tags(1, ns="IMAGE_STRUCTURE").get("NBITS") == "16") == (dtype == "float16")
        assert dataset.tags()["scene"] == "scene"
    assert values.shape == (WIDTH, 12, 16)
    np.testing.assert_array_equal(np.isfinite(values), np.broadcast_to(real, values.shape))
    assert not real.all()
    np.testing.assert_allclose(values[:, real], expected.grids[0][0, :, :12, :16].numpy()[:, real], atol=atol)
    assert {"windows": 1, "empty_windows": 0, "resumed_at": 0, "height": 12, "width": 16, "bands": WIDTH}.items() <= summary.items()
    json.dumps(summary)


def test_patches_lie_where_their_pixels_lie(tmp_path, model):
    out = tmp_path / "out.tif"
    embed_scene(model, make_scene(tmp_path, 45, 70), out)
    with rasterio.open(out) as dataset, rasterio.open(tmp_path / "scene.tif") as pixels:
        assert dataset.crs == pixels.crs
        assert dataset.shape == (12, 18)
        for i, j in ((0, 0), (5, 7), (11, 17)):
            assert dataset.xy(i, j) == pytest.approx((LEFT + (j + 0.5) * PATCH * GSD, TOP - (i + 0.5) * PATCH * GSD))
            corner = pixels.xy(i * PATCH, j * PATCH, offset="ul")
            assert dataset.xy(i, j, offset="ul") == pytest.approx(corner)
        assert dataset.profile["tiled"]
        assert dataset.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"


def test_an_output_of_many_windows_agrees_with_a_window_of_its_own(tmp_path, model):
    out = tmp_path / "out.tif"
    summary = embed_scene(model, make_scene(tmp_path, 100, 75), out, window_px=32, overlap_px=8)
    assert summary["windows"] == 4 * 3
    with rasterio.open(out) as dataset:
        values = dataset.read()
    own = own_output(model, digital_numbers(100, 75), 24, 24, 32).grids[0][0].numpy()
    np.testing.assert_allclose(values[:, 8:12, 8:11], own[:, 2:6, 2:5], atol=1e-5)  # the third column of windows begins at patch 11


def test_a_scene_of_scenes_yaml_is_taken_too(tmp_path, model):
    bands = {name: {"file": "scene.tif", "index": i} for i, name in enumerate(BANDS, start=1)}
    described = make_scene(tmp_path, 20, 20)
    write_scenes_yaml(tmp_path, scene(id="named", sensor=SENSOR, acquired_utc="unknown", bands=bands))
    (found,) = find_scenes(tmp_path)
    assert embed_scene(model, found, tmp_path / "one.tif")["scene"] == "named"
    embed_scene(model, described, tmp_path / "two.tif")
    with rasterio.open(tmp_path / "one.tif") as one, rasterio.open(tmp_path / "two.tif") as two:
        np.testing.assert_array_equal(one.read(), two.read())


def test_killed_runs_end_as_if_they_had_not_been(tmp_path, model):
    shutil.copytree(model, tmp_path / "model")
    command = [sys.executable, "-m", "tests.evaluate.killed", tmp_path]
    done = subprocess.run(command, cwd=REPO, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    with rasterio.open(tmp_path / "whole.tif") as dataset:
        whole = dataset.read()
    for name, summary in found.items():
        with rasterio.open(tmp_path / name) as dataset:
            assert dataset.read().tobytes() == whole.tobytes(), name
        assert summary["windows"] == 4 * 4, name
    resumed_at = {tuple(name.removesuffix(".tif").split("_")[1:]): summary["resumed_at"] for name, summary in found.items()}
    assert resumed_at == {
        ("0", "False"): 4,  # all rows were done, the file was not
        ("2", "True"): 0,
        ("3", "False"): 0,
        ("3", "True"): 0,  # written, not yet in its place
        ("4", "True"): 1,
        ("8", "False"): 2,
        ("12", "True"): 3,
    }
    assert not list(tmp_path.glob(".*"))


def interrupted(model: pathlib.Path, scene: Any, out: pathlib.Path) -> None:
    """Leaves the first row of windows done."""
    dn_path = next(iter(scene.bands.values()))[0]
    with rasterio.open(dn_path, "r+") as dataset:
        last = dataset.read(window=((dataset.height - 1, dataset.height), (0, dataset.width)))
        dataset.write(np.full_like(last, 32_000), window=((dataset.height - 1, dataset.height), (0, dataset.width)))
    with pytest.raises(InputError, match=r"scene 'scene', windows of 16 pixels at \(row, column\) .* raw digital numbers"):
        embed_scene(model, scene, out)


def test_another_model_scene_or_window_is_not_mixed_in(tmp_path, model):
    described, out = make_scene(tmp_path, 45, 40), tmp_path / "out.tif"
    interrupted(model, described, out)
    assert not out.exists()
    other = shutil.copytree(model, tmp_path / "other")
    config = json.loads((other / "config.json").read_text())
    config["slots"][0]["bands"][0]["mean"] = 0.2
    (other / "config.json").write_text(json.dumps(config))
    for wrong, message in (
        (lambda: embed_scene(other, described, out), "other arguments .*model was"),
        (lambda: embed_scene(model, described, out, overlap_px=8), "other arguments .*windows was"),
        (lambda: embed_scene(model, described, out, dtype="float16"), 'dtype was "float32" and is "float16"'),
        (lambda: embed_scene(model, dataclasses.replace(described, nodata=0), out), "other arguments .*scene was"),
    ):
        with pytest.raises(InputError, match=message):
            wrong()
    make_scene(tmp_path, 45, 40)  # the file as it was, but written anew
    with pytest.raises(InputError, match="scene was"):
        embed_scene(model, described, out)
    shutil.rmtree(tmp_path / ".out.tif-unfinished")
    assert embed_scene(model, described, out)["resumed_at"] == 0


def test_chips_are_the_encoders_pooled_output(tmp_path, model):
    out = tmp_path / "out.parquet"
    summary = embed_chips(model, make_scene(tmp_path, 45, 76, border=20), out, batch=3)
    table = geopandas.read_parquet(out)
    dn = digital_numbers(45, 76, border=20)
    starts, shares = [(row, column) for row in range(0, 45, 16) for column in range(0, 76, 16)], {}
    for row, column in starts:
        shares[row, column] = float((dn[:, row : row + 16, column : column + 16] != -10_000).sum() / (4 * 16 * 16))
    kept = [start for start in starts if shares[start] >= 0.5]
    assert {"chips": 15, "dropped": 15 - len(kept), "rows": len(kept), "chip_px": 16, "width": WIDTH}.items() <= summary.items()
    assert 0 < len(kept) < 15
    assert list(zip(table["row"], table["column"], strict=True)) == kept
    assert table.crs == "EPSG:32618"
    assert set(table["scene"]) == {"scene"}
    for i, (row, column) in enumerate(kept):
        box = table.geometry[i]
        bottom, right = min(row + 16, 45), min(column + 16, 76)
        bounds = (LEFT + column * GSD, TOP - bottom * GSD, LEFT + right * GSD, TOP - row * GSD)
        assert box.bounds == pytest.approx(bounds)
        assert tuple(table.loc[i, ["left", "bottom", "right", "top"]]) == pytest.approx(bounds)
        assert table["valid_share"][i] == pytest.approx(shares[row, column])
        np.testing.assert_allclose(table["embedding"][i], own_output(model, dn, row, column, 16).pooled[0].numpy(), atol=1e-5)
    schema = parquet.read_schema(out)
    assert str(schema.field("embedding").type) == f"fixed_size_list<element: float>[{WIDTH}]"
    assert parquet.ParquetFile(out).num_row_groups == sum(any(shares[row, c] >= 0.5 for c in range(0, 76, 16)) for row in range(0, 45, 16))


def test_chips_go_on_after_an_interruption(tmp_path, model):
    described = make_scene(tmp_path, 64, 40)
    embed_chips(model, described, tmp_path / "whole.parquet")
    script = (
        "import os, signal, sys, pathlib; from rsfm_jax.evaluate.scenes import embed, pieces\n"
        "from rsfm_jax.evaluate.scenes.reading import SceneInput\n"
        "commit = pieces.Pieces.commit\n"
        "def dying(self, *a):\n    if self.done == 2: os.kill(os.getpid(), signal.SIGKILL)\n    commit(self, *a)\n"
        "pieces.Pieces.commit = dying\n"
        f"names = {list(BANDS)!r}; scene = SceneInput({SENSOR!r}, {{n: (sys.argv[2], i + 1) for i, n in enumerate(names)}})\n"
        "embed.embed_chips(sys.argv[1], scene, pathlib.Path(sys.argv[3]))"
    )
    out = tmp_path / "killed.parquet"
    done = subprocess.run([sys.executable, "-c", script, model, tmp_path / "scene.tif", out], cwd=REPO, capture_output=True, check=False)
    assert done.returncode == -9, done.stderr
    assert embed_chips(model, described, out)["resumed_at"] == 2
    whole, again = (geopandas.read_parquet(tmp_path / f"{name}.parquet") for name in ("whole", "killed"))
    np.testing.assert_array_equal(np.stack(list(whole["embedding"])), np.stack(list(again["embedding"])))
    assert whole.drop(columns="embedding").equals(again.drop(columns="embedding"))


class Head(torch.nn.Module):
    """Logits of three classes at pixel resolution."""

    def __init__(self) -> None:
        super().__init__()
        self.up = torch.nn.ConvTranspose2d(WIDTH, 3, PATCH, stride=PATCH)

    def forward(self, grid: torch.Tensor) -> torch.Tensor:
        return self.up(grid)


@pytest.fixture
def head() -> Head:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Head().requires_grad_(False)


def test_a_map_of_one_window_is_the_most_likely_class(tmp_path, model, head):
    out = tmp_path / "map.tif"
    summary = map_scene(model, head, ("water", "forest", "town"), make_scene(tmp_path, 45, 62, border=9), out, window_px=64)
    dn = digital_numbers(45, 62, border=9)
    expected = head(own_output(model, dn, 0, 0, 64).grids[0])[0].argmax(0)[:45, :62].numpy()
    with rasterio.open(out) as dataset, rasterio.open(tmp_path / "scene.tif") as pixels:
        values = dataset.read(1)
        assert (dataset.dtypes[0], dataset.nodata, dataset.count) == ("uint8", 255, 1)
        assert dataset.transform == pixels.transform
        assert json.loads(dataset.tags()["classes"]) == ["water", "forest", "town"]
    known = (dn != -10_000).any(axis=0)
    assert not known.all()
    assert (values[~known] == 255).all()
    np.testing.assert_array_equal(values[known], expected[known])
    assert len(np.unique(expected)) == 3
    assert summary["bands"] == 1


def test_a_map_of_many_windows_blends_probabilities(tmp_path, model, head):
    out, dn = tmp_path / "map.tif", digital_numbers(24, 40)
    map_scene(model, head, ("a", "b", "c"), make_scene(tmp_path, 24, 40), out, window_px=24, overlap_px=8)
    total = np.zeros((3, 24, 40))
    rise = np.sin(np.pi / 2 * np.minimum((np.arange(24) + 0.5) / 8, 1)) ** 2
    weights = np.outer(rise * rise[::-1], rise * rise[::-1])
    for column in (0, 16):
        total[:, :, column : column + 24] += weights * head(own_output(model, dn, 0, column, 24).grids[0]).softmax(1)[0].numpy()
    with rasterio.open(out) as dataset:
        assert (dataset.read(1) == total.argmax(0)).mean() > 0.999


def test_a_map_goes_on_with_the_same_head_only(tmp_path, model, head):
    described, out = make_scene(tmp_path, 45, 40), tmp_path / "out.tif"

    class Stopping(torch.nn.Module):
        def __init__(self, stop_at: int) -> None:
            super().__init__()
            self.head, self.left = head, stop_at

        def forward(self, grid: torch.Tensor) -> torch.Tensor:
            self.left -= 1
            if self.left == 0:
                raise KeyboardInterrupt
            return self.head(grid)

    with pytest.raises(KeyboardInterrupt):
        map_scene(model, Stopping(4), "abc", described, out)
    trained = head.up.bias.clone()
    head.up.bias += 1
    with pytest.raises(InputError, match=r"other arguments .*head was"):
        map_scene(model, Stopping(0), "abc", described, out)
    head.up.bias.copy_(trained)
    with pytest.raises(InputError, match=r'classes was \["a", "b", "c"\]'):
        map_scene(model, Stopping(0), "abd", described, out)
    assert map_scene(model, Stopping(0), "abc", described, out)["resumed_at"] == 1


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m, s, o: embed_scene(m, s, o, dtype="int8"), "dtype='int8': must be 'float32' or 'float16'"),
        (lambda m, s, o: embed_scene(m, s, o, window_px=18), "window of 18 pixels: must be a positive multiple of the patch, 4"),
        (lambda m, s, o: embed_scene(m, s, o, overlap_px=16), "overlap of 16 pixels"),
        (lambda m, s, o: embed_scene(m, s, o, batch=0), "batch=0"),
        (lambda m, s, o: embed_scene(m, s, o, patch=8), "scene 'scene': sensor 'sentinel2_l3a' with patch 8 is not known"),
        (lambda m, s, o: embed_scene(m.parent, s, o), "holds no config.json; give the folder that"),
        (lambda m, s, o: embed_scene(m, dataclasses.replace(s, sensor="sentinel2_l2a", baseline_offset_dn=0), o), "it knows sentinel2_l3a"),
        (lambda m, s, o: embed_scene(m, dataclasses.replace(s, scale=1.0, offset=0.0), o), r"at \(row, column\) .* raw digital numbers"),
        (lambda m, s, o: embed_chips(m, s, o, min_valid_share=0.0), "min_valid_share=0: must be greater than 0"),
        (lambda m, s, o: embed_chips(m, s, o, chip_px=10), "window of 10 pixels: must be a positive multiple of the patch"),
        (lambda m, s, o: embed_chips(m, dataclasses.replace(s, scale=1.0, offset=0.0), o), "chips of 16 pixels .* raw digital numbers"),
        (lambda m, s, o: map_scene(m, torch.nn.Identity(), (), s, o), "0 classes: a map holds 1 to 255"),
        (lambda m, s, o: map_scene(m, lambda grid: grid, "ab", s, o), "head_digest is missing"),
    ],
)
def test_wrong_input_is_named_and_leaves_nothing(tmp_path, model, call, message):
    described = make_scene(tmp_path, 20, 20)
    with pytest.raises(InputError, match=message):
        call(model, described, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["scene.tif"]


def test_embeddings_beyond_float16_are_refused(tmp_path, model):
    loud = shutil.copytree(model, tmp_path / "loud")
    weights = load_file(loud / "model.safetensors")
    save_file(weights | {"norm.weight": weights["norm.weight"] * 1e6}, loud / "model.safetensors")
    config = json.loads((loud / "config.json").read_text())
    config["sha256"]["model.safetensors"] = hashlib.sha256((loud / "model.safetensors").read_bytes()).hexdigest()
    (loud / "config.json").write_text(json.dumps(config))
    described = make_scene(tmp_path, 20, 20)
    with pytest.raises(InputError, match=r"float16 to 65504; use dtype='float32'"):
        embed_scene(loud, described, tmp_path / "out.tif", dtype="float16")
    embed_scene(loud, described, tmp_path / "out.tif")
