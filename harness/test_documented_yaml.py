"""The TerraTorch yaml of docs/export.md, run by TerraTorch's own command line on GeoTIFFs of digital numbers."""

import pathlib
import re
import subprocess
import sys

from conftest import Case
import numpy as np
import pytest
import rasterio

REPO = pathlib.Path(__file__).resolve().parent.parent


@pytest.fixture
def place(tmp_path):
    """A folder with the yaml, the plug-in, images and labels, and the weights."""
    case = Case("cls-rsfm", "cls-rsfm-one")
    (text,) = re.findall(r"```yaml\n(.*?)```", (REPO / "docs" / "export.md").read_text(), re.DOTALL)
    (tmp_path / "segmentation.yaml").write_text(text)
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "__init__.py").write_text("import rsfm_jax.torch.terratorch\n")
    (tmp_path / "weights").symlink_to(case.folder)
    profile = {"driver": "GTiff", "height": 32, "width": 32, "crs": "EPSG:32617", "transform": rasterio.Affine(10, 0, 5e5, 0, -10, 4e6)}
    for name in ("images", "labels"):
        (tmp_path / "data" / name).mkdir(parents=True)
    for i, values in enumerate(case.values.repeat(2, 1, 2, 2)[..., :32, :32].numpy()):
        numbers = np.round(1e4 * values).astype(np.int16)
        with rasterio.open(tmp_path / "data" / "images" / f"{i}.tif", "w", count=4, dtype="int16", **profile) as file:
            file.write(numbers)
        with rasterio.open(tmp_path / "data" / "labels" / f"{i}.tif", "w", count=1, dtype="uint8", **profile) as file:
            file.write((numbers[3] > np.median(numbers[3])).astype(np.uint8), 1)
    return tmp_path


def terratorch(place):
    program = str(pathlib.Path(sys.executable).with_name("terratorch"))
    command = [program, "fit", "-c", "segmentation.yaml", "--custom_modules_path", "plugins"]
    environment = {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(REPO), "HOME": str(place), "MPLCONFIGDIR": str(place)}
    return subprocess.run(command, cwd=place, env=environment, capture_output=True, text=True, check=False)


def test_it_trains(place):
    done = terratorch(place)
    assert done.returncode == 0, done.stderr[-4000:]
    assert "`Trainer.fit` stopped: `max_epochs=2` reached" in done.stdout + done.stderr


def test_the_wrong_unit_is_refused(place):
    file = place / "segmentation.yaml"
    file.write_text(file.read_text().replace("constant_scale: 0.0001", "constant_scale: 1.0"))
    done = terratorch(place)
    assert done.returncode != 0
    assert "raw digital numbers" in done.stderr
