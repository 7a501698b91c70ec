"""torchgeo-bench with the model of rsfm_jax/torch/torchgeo_bench.py; the library needs Python 3.12."""

from conftest import Case
import pytest
import torch

pytest.importorskip("torchgeo_bench")

from torchgeo_bench.datasets.base import BandSpec

from rsfm_jax.torch.torchgeo_bench import RSFMBench

NAMES = ["B02", "B03", "B04", "B08"]


def bands(largest, names=NAMES):
    return [BandSpec("s2", name.lower(), name, 0.1 * largest, 0.1 * largest, 0.0, largest) for name in names]


def build(case, specs, **changes):
    return RSFMBench(specs, **{"folder": str(case.folder), "sensor": "sentinel2_l3a", "gsd_m": 12.0} | changes)


@pytest.mark.parametrize(("largest", "times"), [(10000.0, 1e4), (1.5, 1.0)])
@pytest.mark.parametrize("name", ["cls-rsfm", "plain-rsfm"])
def test_features_of_digital_numbers_and_of_reflectance(name, largest, times):
    case = Case(name, f"{name}-one")
    model = build(case, bands(largest)).eval()
    model.images.encoder.encodings.time.unknown.data = model.images.encoder.encodings.time(case.time[:1, 0])[
        0
    ]  # the benchmark has no dates
    features = model.forward_patch_features(case.values * times)
    case.check("torchgeo-bench", features, case.tokens[:, case.first :].mean(dim=1))


def test_other_values_by_scale_and_offset():
    case = Case("cls-rsfm", "cls-rsfm-one")
    expected = build(case, bands(1.5))(case.values)
    found = build(case, bands(255.0), normalization="identity", scale=0.5, offset=-0.1)((case.values + 0.1) * 2)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


def test_bands_by_other_names():
    case = Case("cls-rsfm", "cls-rsfm-one")
    expected = build(case, bands(1.5, ["B04", "B02"]))(case.values[:, [2, 0]])
    found = build(case, bands(1.5, ["04 - Red", "02 - Blue"]), names=["B04", "B02"])(case.values[:, [2, 0]])
    assert torch.equal(found, expected)


@pytest.mark.parametrize(
    ("largest", "changes", "said"),
    [
        (1.5, {"normalization": "bandspec_zscore"}, "the encoder takes physical values: expected 'model_native' or 'identity'"),
        (255.0, {}, "the benchmark's values are of 8 bits, not reflectance; choose 'identity'"),
        (1.5, {"scale": 2.0}, "scale and offset go with normalization='identity'"),
        (1.5, {"names": ["B02"]}, "names are B02; expected one for each of b02, b03, b04, b08"),
        (1.5, {"names": ["02", "03", "04", "08"]}, "bands 02, 03, 04, 08 are not together"),
    ],
)
def test_what_is_refused(largest, changes, said):
    with pytest.raises(ValueError, match=said):
        build(Case("cls-rsfm"), bands(largest), **changes)
