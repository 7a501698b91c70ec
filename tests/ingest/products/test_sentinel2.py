"""SAFE folders in ESA's structure, with JPEG 2000 images, the elements' true names and few pixels."""

import datetime

import numpy as np
import pytest
import rasterio

from rsfm_jax.errors import InputError
from rsfm_jax.ingest.chips import ChipReader
from rsfm_jax.ingest.describe import find_inputs, find_scenes
from rsfm_jax.ingest.raster import open_scene

NAME = "S2A_MSIL2A_20230611T105031_N{baseline}_R051_T31TCJ_20230611T170004.SAFE"
PRODUCT = """<?xml version="1.0" encoding="UTF-8" standalone="no"?>
<n1:Level-{level}_User_Product xmlns:n1="https://psd-14.sentinel2.eo.esa.int/PSD/User_Product_Level-{level}.xsd">
  <n1:General_Info>
    <Product_Info>
      <PRODUCT_START_TIME>2023-06-11T10:50:31.024Z</PRODUCT_START_TIME>
      <PRODUCT_URI>{uri}</PRODUCT_URI>
      <PROCESSING_LEVEL>Level-{level}</PROCESSING_LEVEL>
      <PROCESSING_BASELINE>{baseline}</PROCESSING_BASELINE>
    </Product_Info>
    <Product_Image_Characteristics>
      <Special_Values><SPECIAL_VALUE_TEXT>NODATA</SPECIAL_VALUE_TEXT><SPECIAL_VALUE_INDEX>0</SPECIAL_VALUE_INDEX></Special_Values>
      <Special_Values><SPECIAL_VALUE_TEXT>SATURATED</SPECIAL_VALUE_TEXT><SPECIAL_VALUE_INDEX>65535</SPECIAL_VALUE_INDEX></Special_Values>
      {quantification}
      {offsets}
    </Product_Image_Characteristics>
  </n1:General_Info>
  <n1:Quality_Indicators_Info><Cloud_Coverage_Assessment>12.25</Cloud_Coverage_Assessment></n1:Quality_Indicators_Info>
</n1:Level-{level}_User_Product>
"""
TILE = """<?xml version="1.0" encoding="UTF-8" standalone="no"?>
<n1:Level-{level}_Tile_ID xmlns:n1="https://psd-14.sentinel2.eo.esa.int/PSD/S2_PDI_Level-{level}_Tile_Metadata.xsd">
  <n1:General_Info><SENSING_TIME metadataLevel="Standard">2023-06-11T10:53:45.123456Z</SENSING_TIME></n1:General_Info>
  <n1:Geometric_Info>
    <Tile_Angles>
      <Mean_Sun_Angle><ZENITH_ANGLE unit="deg">24.5</ZENITH_ANGLE><AZIMUTH_ANGLE unit="deg">145.5</AZIMUTH_ANGLE></Mean_Sun_Angle>
      <Mean_Viewing_Incidence_Angle_List>
        <Mean_Viewing_Incidence_Angle bandId="0"><ZENITH_ANGLE unit="deg">4.0</ZENITH_ANGLE><AZIMUTH_ANGLE unit="deg">350.0</AZIMUTH_ANGLE>
        </Mean_Viewing_Incidence_Angle>
        <Mean_Viewing_Incidence_Angle bandId="9"><ZENITH_ANGLE unit="deg">5.0</ZENITH_ANGLE><AZIMUTH_ANGLE unit="deg">20.0</AZIMUTH_ANGLE>
        </Mean_Viewing_Incidence_Angle>
      </Mean_Viewing_Incidence_Angle_List>
    </Tile_Angles>
  </n1:Geometric_Info>
</n1:Level-{level}_Tile_ID>
"""
TAGS = {"1C": ("Radiometric_Offset_List", "RADIO_ADD_OFFSET"), "2A": ("BOA_ADD_OFFSET_VALUES_LIST", "BOA_ADD_OFFSET")}
VALUES = np.arange(36, dtype=np.uint16).reshape(6, 6) + 1500


def write_jp2(path, values, gsd):
    path.parent.mkdir(parents=True, exist_ok=True)
    transform = rasterio.Affine(gsd, 0, 300_000, 0, -gsd, 4_900_020)
    shape = {"count": 1, "height": values.shape[0], "width": values.shape[1], "dtype": values.dtype, "crs": "EPSG:32631"}
    with rasterio.open(path, "w", driver="JP2OpenJPEG", transform=transform, QUALITY="100", REVERSIBLE="YES", **shape) as dataset:
        dataset.write(values, 1)


def write_safe(root, level="2A", baseline="05.09", offset="-1000", name=NAME, without=None):
    """A product: B04 on 10, 20 and 60 m, B8A, B01 and the classification of level 2A; B04 alone of level 1C."""
    folder = root / name.format(baseline=baseline.replace(".", "")).replace("2A_2023", f"{level}_2023")
    list_tag, tag = TAGS[level]
    ids = [i for i in range(13) if i != without]
    offsets = "".join(f'<{tag} band_id="{i}">{offset}</{tag}>' for i in ids)
    quantification = "<QUANTIFICATION_VALUE unit='none'>10000</QUANTIFICATION_VALUE>"
    if level == "2A":
        value = '<BOA_QUANTIFICATION_VALUE unit="none">10000</BOA_QUANTIFICATION_VALUE>'
        quantification = f"<QUANTIFICATION_VALUES_LIST>{value}</QUANTIFICATION_VALUES_LIST>"
    granule = folder / "GRANULE" / f"L{level}_T31TCJ_A041612_20230611T105345"
    granule.mkdir(parents=True)
    fields = {"level": level, "baseline": baseline, "uri": folder.name, "quantification": quantification}
    listed = f"<{list_tag}>{offsets}</{list_tag}>" if offset is not None else ""
    (folder / f"MTD_MSIL{level}.xml").write_text(PRODUCT.format(offsets=listed, **fields))
    (granule / "MTD_TL.xml").write_text(TILE.format(level=level))
    images, stem = granule / "IMG_DATA", "T31TCJ_20230611T105031"
    if level == "1C":
        write_jp2(images / f"{stem}_B04.jp2", VALUES, 10)
        write_jp2(images / f"{stem}_TCI.jp2", VALUES.astype(np.uint8), 10)
        return folder
    write_jp2(images / "R10m" / f"{stem}_B04_10m.jp2", VALUES, 10)
    for gsd in (20, 60):
        write_jp2(images / f"R{gsd}m" / f"{stem}_B04_{gsd}m.jp2", VALUES[:: gsd // 10, :: gsd // 10], gsd)
    write_jp2(images / "R20m" / f"{stem}_B8A_20m.jp2", VALUES[::2, ::2], 20)
    write_jp2(images / "R20m" / f"{stem}_B01_20m.jp2", VALUES[::2, ::2], 20)
    write_jp2(images / "R60m" / f"{stem}_B01_60m.jp2", VALUES[::6, ::6], 60)
    write_jp2(images / "R20m" / f"{stem}_AOT_20m.jp2", VALUES[::2, ::2], 20)
    write_jp2(images / "R20m" / f"{stem}_SCL_20m.jp2", np.array([[4, 9, 5], [3, 4, 11], [6, 8, 10]], np.uint8), 20)
    return folder


def test_a_level_2a_folder(tmp_path):
    folder = write_safe(tmp_path)
    found = find_inputs(tmp_path)
    (scene,) = found.scenes
    assert found.unrecognised == []
    assert (scene.id, scene.sensor.name, scene.baseline_offset_dn) == (folder.stem, "sentinel2_l2a", -1000)
    assert scene.acquired_utc == datetime.datetime(2023, 6, 11, 10, 53, 45, 123456, datetime.UTC)
    assert scene.described_in == folder / "MTD_MSIL2A.xml"
    conditions = scene.conditions
    assert (conditions.sun_elevation_deg, conditions.sun_azimuth_deg, conditions.cloud_percent) == (65.5, 145.5, 12.25)
    assert (conditions.incidence_deg, conditions.off_nadir_deg) == (4.5, None)
    assert conditions.view_azimuth_deg == pytest.approx(5.0, abs=0.05)  # between 350 and 20, through north
    opened = open_scene(scene)
    assert {name: band.gsd_m for name, band in opened.bands.items()} == {"B01": 60, "B04": 10, "B8A": 20}
    assert opened.crs.to_epsg() == 32631
    assert (opened.bands["B04"].scale, opened.bands["B04"].nodata) == (1e-4, 0)
    assert opened.bands["B04"].offset == pytest.approx(-0.1)


def test_pixels_of_jpeg_2000_and_the_scene_classification_as_mask(tmp_path):
    write_safe(tmp_path)
    (scene,) = find_scenes(tmp_path)
    with ChipReader() as reader:
        dn_HWC, valid_HWC = reader.read_window(open_scene(scene), ("B04",), 0, 0, 6)
    clear = np.kron(np.array([[1, 0, 1], [0, 1, 1], [1, 0, 0]]), np.ones((2, 2))).astype(bool)  # 9, 3, 8 and 10 are cloud and shadow
    np.testing.assert_array_equal(valid_HWC[..., 0], clear)
    np.testing.assert_array_equal(dn_HWC[..., 0], np.where(clear, VALUES, 0))


@pytest.mark.parametrize(
    ("level", "baseline", "offset", "reflectance"),
    [("1C", "04.00", "-1000", 0.05), ("1C", "03.01", None, 0.15), ("2A", "05.10", "-1000", 0.05), ("2A", "02.14", None, 0.15)],
)
def test_the_offset_is_the_products_own(tmp_path, level, baseline, offset, reflectance):
    write_safe(tmp_path, level, baseline, offset)
    (scene,) = find_scenes(tmp_path)
    band = open_scene(scene).bands["B04"]
    assert scene.sensor.name == f"sentinel2_l{level.lower()}"
    assert band.scale * 1500 + band.offset == pytest.approx(reflectance)


def test_the_folder_itself_may_be_given_and_need_not_be_called_safe(tmp_path):
    folder = write_safe(tmp_path)
    assert len(find_scenes(folder)) == 1
    renamed = folder.rename(tmp_path / "toulouse")
    (scene,) = find_scenes(renamed)
    assert scene.id == folder.stem


@pytest.mark.parametrize(
    ("written", "message"),
    [
        (
            {"baseline": "05.09", "offset": None},
            r"MTD_MSIL2A\.xml: PROCESSING_BASELINE is 05\.09 and there is no BOA_ADD_OFFSET; .*scenes\.yaml",
        ),
        ({"baseline": "03.01"}, r"MTD_MSIL2A\.xml: PROCESSING_BASELINE is 03\.01 and there is BOA_ADD_OFFSET"),
        ({"offset": "-500"}, r"BOA_ADD_OFFSET is \{.*'B04': -500.0.*\}; expected -1000"),
        ({"without": 3}, r"has no BOA_ADD_OFFSET of band B04 \(band_id 3\)"),
        (
            {"name": "S2A_MSIL2A_20230611T105031_N0400_R051_T31TCJ_20230611T170004.SAFE"},
            "PROCESSING_BASELINE is 05.09, the product's name says 04.00",
        ),
    ],
)
def test_a_baseline_that_contradicts_itself_is_refused(tmp_path, written, message):
    write_safe(tmp_path, **written)
    with pytest.raises(InputError, match=message):
        find_scenes(tmp_path)


@pytest.mark.parametrize(
    ("missing", "message"),
    [
        ("MTD_MSIL2A.xml", r"\.SAFE: has 0 of MTD_MSIL1C\.xml and MTD_MSIL2A\.xml"),
        ("GRANULE/*/MTD_TL.xml", r"\.SAFE: has no GRANULE/\*/MTD_TL\.xml"),
        ("GRANULE/*/IMG_DATA/*/*.jp2", r"IMG_DATA: has no image of a band"),
    ],
)
def test_what_is_missing_is_named(tmp_path, missing, message):
    folder = write_safe(tmp_path)
    for file in folder.glob(missing):
        file.unlink()
    with pytest.raises(InputError, match=message):
        find_scenes(tmp_path)


def test_broken_and_incomplete_metadata_are_named(tmp_path):
    metadata = write_safe(tmp_path) / "MTD_MSIL2A.xml"
    text = metadata.read_text()
    metadata.write_text(text[:600])
    with pytest.raises(InputError, match=r"MTD_MSIL2A\.xml: not valid XML"):
        find_scenes(tmp_path)
    metadata.write_text(text.replace("BOA_QUANTIFICATION_VALUE", "BOA_VALUE"))
    with pytest.raises(InputError, match=r"MTD_MSIL2A\.xml: has no BOA_QUANTIFICATION_VALUE"):
        find_scenes(tmp_path)
