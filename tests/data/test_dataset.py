import dataclasses
import json
import pathlib
import shutil

import numpy as np
import pytest

from rsfm_jax.data.dataset import Dataset, open_dataset
from rsfm_jax.data.decode import Decoder
from rsfm_jax.errors import InputError
from rsfm_jax.geo import geosot_bits
from tests import tiny_config


def test_opened_as_ingested(tiny_path: pathlib.Path, tiny_dataset: Dataset):
    assert tiny_dataset.layouts == tiny_config.layouts()
    for layout in tiny_dataset.layouts:
        assert len(tiny_dataset.source(layout, "train")) == tiny_dataset.sets[layout.name]["train"] > 16
    statistics = json.loads((tiny_path / "dataset.json").read_text())["statistics"]
    mean, std = tiny_dataset.mean_std(tiny_dataset.layouts[0].slots[0])
    assert mean.tolist() == [statistics["sentinel2_l3a"][band]["mean"] for band in ("B02", "B03", "B04", "B08")]
    assert (std > 0).all()


@pytest.fixture
def copy(tiny_path: pathlib.Path, tmp_path: pathlib.Path) -> pathlib.Path:
    return shutil.copytree(tiny_path, tmp_path / "copy")


def test_empty_path():
    with pytest.raises(InputError, match=r"config\.data\.path is empty"):
        open_dataset("")


def test_no_dataset(tmp_path: pathlib.Path):
    with pytest.raises(InputError, match=r"no dataset\.json there; make the dataset with"):
        open_dataset(str(tmp_path / "nowhere"))


def test_broken_json(copy: pathlib.Path):
    (copy / "dataset.json").write_text("{")
    with pytest.raises(InputError, match=r"dataset\.json: not valid JSON"):
        open_dataset(str(copy))


def test_another_schema_version(copy: pathlib.Path):
    fields = json.loads((copy / "dataset.json").read_text())
    (copy / "dataset.json").write_text(json.dumps(fields | {"schema_version": 99}))
    with pytest.raises(InputError, match=r"schema_version is 99, this version reads 1"):
        open_dataset(str(copy))


def test_missing_records(copy: pathlib.Path):
    shutil.rmtree(copy / "records" / "image_sets" / "landsat")
    with pytest.raises(InputError, match=r"records of layout 'landsat' are missing"):
        open_dataset(str(copy))


@pytest.mark.parametrize("layout_number", [0, 1])
def test_decoding_is_physical_values_normalised(tiny_dataset: Dataset, layout_number: int):
    layout = tiny_dataset.layouts[layout_number]
    record = dict(tiny_dataset.source(layout, "train")[3])
    rng = np.random.default_rng(0)
    for i, slot in enumerate(layout.slots):  # the example scenes have nearly no gaps here, so the record gets some
        record[f"valid_{i}"] = np.packbits(rng.random(slot.pixels * slot.pixels * len(slot.bands)) < 0.7)
    example = Decoder(tiny_dataset, layout)(record)
    assert set(example) == {"members", "place"}
    for i, (slot, member) in enumerate(zip(layout.slots, example["members"], strict=True)):
        dn = record[f"pixels_{i}"].astype(np.float64)
        valid = np.unpackbits(record[f"valid_{i}"])[: dn.size].reshape(dn.shape) == 1
        mean, std = tiny_dataset.mean_std(slot)
        expected = (dn * record[f"scale_{i}"] + record[f"offset_{i}"] - mean) / std
        assert 0.6 < valid.mean() < 0.8
        np.testing.assert_array_equal(member["valid"], valid)
        np.testing.assert_allclose(member["pixels"][valid], expected[valid], atol=2e-4)
        assert not member["pixels"][~valid].any()
        np.testing.assert_allclose(member["grid_m"], record[f"grid_m_{i}"])
        np.testing.assert_array_equal(member["time"], record[f"time_{i}"])
        assert {name: (x.dtype, x.shape) for name, x in member.items()} == {
            "pixels": (np.float32, (slot.pixels, slot.pixels, len(slot.bands))),
            "valid": (np.bool_, (slot.pixels, slot.pixels, len(slot.bands))),
            "grid_m": (np.float32, (4,)),
            "time": (np.float32, (3,)),
        }


def test_the_place_is_the_footprint_and_its_centre(tiny_dataset: Dataset):
    layout = tiny_dataset.layouts[0]
    record = dict(tiny_dataset.source(layout, "train")[3])
    place = Decoder(tiny_dataset, layout)(record)["place"]
    assert {name: (x.dtype, x.shape) for name, x in place.items()} == {"geosot": (np.uint8, (256,)), "lonlat_deg": (np.float32, (3,))}
    corners = record["lonlat_deg"]
    (west, south), (east, north) = corners.min(axis=0), corners.max(axis=0)
    known, lon, lat = place["lonlat_deg"]
    assert known == 1
    assert west < lon < east
    assert south < lat < north
    np.testing.assert_array_equal(place["geosot"], geosot_bits(corners))
    square = np.array([[-10.0, 4.0], [-8.0, 4.0], [-8.0, 3.0], [-10.0, 3.0]])
    elsewhere = Decoder(tiny_dataset, layout)(record | {"lonlat_deg": square})["place"]
    assert elsewhere["lonlat_deg"].tolist() == [1.0, -9.0, 3.5]
    assert (elsewhere["geosot"] != place["geosot"]).any()


def test_nodata_that_is_not_a_number_becomes_zero(tiny_dataset: Dataset):
    layout = dataclasses.replace(tiny_dataset.layouts[0], slots=tiny_dataset.layouts[0].slots[:1])
    record = dict(tiny_dataset.source(tiny_dataset.layouts[0], "train")[0])
    pixels = record["pixels_0"].astype(np.float32)
    pixels[0] = np.nan
    valid = np.isfinite(pixels)
    (member,) = Decoder(tiny_dataset, layout)(record | {"pixels_0": pixels, "valid_0": np.packbits(valid)})["members"]
    assert not member["pixels"][0].any()
    assert np.isfinite(member["pixels"]).all()
