import dataclasses
import importlib
import json
import pathlib
import typing

import pytest

from configs import demo
from rsfm_jax import config as config_module
from rsfm_jax.config import Config, IngestConfig, config_from_dict, differing_fields, to_dict
from rsfm_jax.errors import InputError
from rsfm_jax.layouts import Layout, Slot, layout_from_dict

SECTIONS = [field.name for field in dataclasses.fields(Config)]
DATACLASSES = [*(c for c in vars(config_module).values() if isinstance(c, type) and dataclasses.is_dataclass(c)), Slot]


def _slot(**fields) -> Slot:
    return Slot(**{"sensor": "sentinel2_l2a", "bands": ("B04", "B03"), "gsd_m": 10.0, "pixels": 32, "patch": 4} | fields)


def _layout(*slots: Slot, **fields) -> Layout:
    return Layout(**{"name": "pair", "slots": slots or (_slot(),)} | fields)


@pytest.mark.parametrize("cls", DATACLASSES, ids=lambda cls: cls.__name__)
def test_every_knob_is_documented_in_one_line(cls):
    for field in dataclasses.fields(cls):
        doc = field.metadata["doc"]
        assert len(doc) > 10 or cls is Config, f"{cls.__name__}.{field.name}"
        assert doc
        assert "\n" not in doc
        assert isinstance(field.metadata["runtime"], bool)
        assert field.name in typing.get_type_hints(cls)


def test_defaults_and_demo_are_valid():
    assert isinstance(Config().validate(), Config)
    assert isinstance(demo.get_config().validate(), Config)


def test_two_configs_share_nothing():
    one, other = Config(), Config()
    one.mask.ratio = 0.3
    assert other.mask.ratio != 0.3


@pytest.mark.parametrize(
    ("field", "value", "wanted"),
    [
        ("ingest.split_cell_m", 0.0, "positive"),
        ("ingest.val_share", 1.0, r"in \[0, 1\)"),
        ("ingest.min_valid_share", 1.5, r"in \[0, 1\]"),
        ("curate.seed", -1, r"in \[0, 2\*\*31\)"),
        ("curate.min_valid_share", 0.0, r"in \(0, 1\]"),
        ("curate.max_saturated_share", 1.1, r"in \[0, 1\]"),
        ("curate.min_contrast", -0.1, "zero or positive"),
        ("curate.texture_weight", -1.0, "zero or positive"),
        ("curate.clip_z", 0.0, "positive"),
        ("curate.sets_per_cluster", 0.5, "at least 1"),
        ("curate.quota_exponent", 2.0, r"in \[0, 1\]"),
        ("curate.block_size", 7, "at least 8"),
        ("data.global_batch_size", 0, "at least 1"),
        ("data.read_threads", 0, "at least 1"),
        ("data.prefetch_batches", -1, "at least 1"),
        ("augment.crop_min_area", 0.0, r"in \(0, 1\]"),
        ("augment.crop_min_area", 1.5, r"in \(0, 1\]"),
        ("augment.crop_max_aspect", 0.5, "at least 1"),
        ("augment.flip", "horizontl", r"one of none, horizontal, dihedral \(did you mean 'horizontal'\?\)"),
        ("mask.ratio", 1.0, "between 0 and 1, both excluded"),
        ("mask.anchor", "finnest", r"one of random, finest, coarsest \(did you mean 'finest'\?\)"),
        ("tokenizer.kind", "wavelengths", r"one of groups, random3, wavelength \(did you mean 'wavelength'\?\)"),
        ("tokenizer.band_dropout", 1.0, r"in \[0, 1\)"),
        ("encoding.positions", "meters", r"did you mean 'metres'\?"),
        ("encoding.position_unit_m", -1.0, "positive"),
        ("encoding.geo", "geosot", "one of none, a2mae, a2mae_released, prithvi, cartesian"),
        ("encoding.geo", "a2mae_released", "'a2mae_released' with encoding.positions only"),
        ("encoding.time", "seasons", r"did you mean 'season'\?"),
        ("encoding.identity", "slots", r"did you mean 'slot'\?"),
        ("encoding.metadata_dropout", 1.0, r"in \[0, 1\)"),
        ("model.width", 100, "a positive multiple of 8"),
        ("model.heads", 7, "a divisor of width=1024"),
        ("model.decoder_heads", 0, "a divisor of decoder_width=512"),
        ("model.depth", 0, "at least 1"),
        ("model.decoder_depth", 0, "at least 1"),
        ("model.mlp_ratio", 0.0, "positive"),
        ("model.unroll", -1, "zero or positive"),
        ("model.compute_dtype", "bfloat61", r"one of float32, bfloat16 \(did you mean 'bfloat16'\?\)"),
        ("model.remat", "everything", "one of none, dots, full"),
        ("model.attention", "flash", "one of plain, cudnn"),
        ("optim.base_lr", 0.0, "positive"),
        ("optim.b2", 1.0, r"in \[0, 1\)"),
        ("optim.weight_decay", -0.1, "zero or positive"),
        ("optim.clip_norm", -1.0, "zero or positive"),
        ("optim.warmup_steps", 100_000, "less than train.steps=100000"),
        ("train.steps", 0, "at least 1"),
        ("train.keep_checkpoints", 0, "at least 1"),
        ("train.picture_every", -1, "zero or positive"),
        ("train.seed", -1, r"in \[0, 2\*\*31\)"),
    ],
)
def test_a_wrong_value_is_named_with_what_would_be_right(field, value, wanted):
    config = Config()
    section, name = field.split(".")
    setattr(getattr(config, section), name, value)
    with pytest.raises(InputError, match=rf"^config\.{field}={value!r}: must be .*{wanted}"):
        config.validate()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"tokenizer.kind": "random3", "tokenizer.groups": ("sentinel2_l2a: B02 | B03",)}, r"groups=.*: must be empty with .*'random3'"),
        ({"model.joint": False, "model.cls_token": True}, r"model\.cls_token=True: must be False with model\.joint=False"),
        ({"encoding.time": "satmae", "model.width": 48, "model.heads": 3}, r"model\.width=48: must be a multiple of 32"),
        ({"encoding.identity": "satmae", "model.decoder_width": 48, "model.decoder_heads": 3}, r"decoder_width=48: .* a multiple of 32"),
        ({"encoding.positions": "3d", "model.width": 24, "model.heads": 3}, r"model\.width=24: must be a multiple of 16"),
        ({"encoding.positions": "a2mae_released"}, r"encoding\.geo='a2mae': must be 'a2mae_released' with"),
    ],
)
def test_values_that_do_not_go_together_are_named(fields, message):
    config = Config()
    for field, value in fields.items():
        section, name = field.split(".")
        setattr(getattr(config, section), name, value)
    with pytest.raises(InputError, match=message):
        config.validate()


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (("B02 B03",), r"config\.tokenizer\.groups\[0\]='B02 B03': must be 'sensor: band band \| band'"),
        (("sentinel2_l2b: B02",), r"'sentinel2_l2b' is not in the registry.*did you mean 'sentinel2_l2a'\?"),
        (("sentinel2_l2a: B02 B8a",), r"has no band 'B8a'.*did you mean 'B8A'\?"),
        (("dem: elevation", "sentinel2_l2a: B02 | B03 B02"), r"groups\[1\]=.*: must be free of bands that are in two groups"),
        (("sentinel2_l2a: B02 | | B03",), r"groups\[0\]=.*: must be free of empty groups"),
        (("sentinel2_l2a: B02", "sentinel2_l2a: B03"), r"groups\[1\]=.*: must be the only line of sensor sentinel2_l2a"),
    ],
)
def test_a_wrong_line_of_band_groups_is_named(lines, message):
    with pytest.raises(InputError, match=message):
        Config(tokenizer=config_module.TokenizerConfig(groups=lines)).validate()


def test_a_wrong_line_of_the_mask_table_is_named():
    with pytest.raises(InputError, match=r"config\.mask\.table\[0\]='any: consistant': .*did you mean 'consistent'\?"):
        Config(mask=config_module.MaskConfig(table=("any: consistant",))).validate()


@pytest.mark.parametrize(("sizes", "wanted"), [({"data": 0}, "positive sizes or one -1"), ({"fsdp": -1}, "free of a second -1")])
def test_a_wrong_mesh_is_named(sizes, wanted):
    with pytest.raises(InputError, match=rf"^config\.parallel=\(.*\): must be .*{wanted}"):
        Config(parallel=config_module.ParallelConfig(**sizes)).validate()


@pytest.mark.parametrize(
    ("layout", "message"),
    [
        (_layout(name="two words"), r"layouts\[0\]\.name='two words': must be letters, digits and underscores"),
        (Layout("none_at_all"), r"layouts\[0\]\.slots=0: must be one to six slots"),
        (_layout(*[_slot()] * 7), r"layouts\[0\]\.slots=7: must be one to six slots"),
        (_layout(stride_m=-1.0), r"layouts\[0\]\.stride_m=-1.0: must be zero or positive"),
        (_layout(sets_per_place=0), r"layouts\[0\]\.sets_per_place=0: must be at least 1"),
        (_layout(_slot(), _slot(sensor="sentinel2_l2b")), r"'sentinel2_l2b' is not in the registry.*did you mean 'sentinel2_l2a'\?"),
        (_layout(_slot(bands=("B04", "B8a"))), r"has no band 'B8a'.*did you mean 'B8A'\?"),
        (_layout(_slot(bands=())), r"slots\[0\]\.bands=\(\): must be at least one band name"),
        (_layout(_slot(), _slot(bands=("B04", "B04"))), r"slots\[1\]\.bands=.*must be free of repetitions"),
        (_layout(_slot(gsd_m=0.0)), r"slots\[0\]\.gsd_m=0.0: must be a positive number of metres"),
        (_layout(_slot(patch=0)), r"slots\[0\]\.patch=0: must be positive"),
        (_layout(_slot(pixels=30)), r"slots\[0\]\.pixels=30: must be a multiple of patch=4"),
        (_layout(_slot(resample="bilinnear")), r"slots\[0\]\.resample='bilinnear'.*did you mean 'bilinear'"),
        (
            _layout(_slot(acquisition="a"), _slot(sensor="sentinel2_l1c", acquisition="a")),
            r"layouts\[0\]\.slots='a': must be one sensor for all slots of one acquisition",
        ),
    ],
)
def test_a_wrong_layout_is_named(layout, message):
    with pytest.raises(InputError, match=message):
        IngestConfig(layouts=(layout,)).validate()


def test_layout_names_are_unique():
    with pytest.raises(InputError, match=r"config\.ingest\.layouts=\['pair', 'pair'\]: must be free of repeated names"):
        IngestConfig(layouts=(_layout(), _layout())).validate()


def test_slots_and_layouts_count_tokens():
    slot = _slot(pixels=32, patch=4)
    assert (slot.grid, slot.tokens, slot.patch_values) == (8, 64, 32)
    layout = _layout(_slot(acquisition="a"), _slot(), _slot(acquisition="a"), _slot())
    assert layout.tokens == 256
    assert layout.acquisitions() == [[0, 2], [1], [3]]


def test_dicts_round_trip_through_json():
    config = demo.get_config()
    config.mask.ratio = 0.6
    text = json.dumps(to_dict(config))
    again = config_from_dict(json.loads(text))
    assert again == config
    assert isinstance(again.ingest.layouts[0].slots[0].bands, tuple)
    assert layout_from_dict(json.loads(text)["ingest"]["layouts"][1]) == config.ingest.layouts[1]


def test_a_dict_with_unknown_fields_is_refused():
    fields = to_dict(Config())
    fields["mask"]["ratioo"] = 0.5
    with pytest.raises(InputError, match=r"config\.mask holds fields this version does not know: \['ratioo'\]"):
        config_from_dict(fields)


def test_sections_left_out_of_a_dict_take_their_defaults():
    assert config_from_dict({"mask": {"ratio": 0.5}}) == Config(mask=config_module.MaskConfig(ratio=0.5))


def test_differing_fields_names_what_is_computed():
    new = Config()
    new.mask.ratio = 0.6
    new.optim.base_lr = 1e-3
    assert differing_fields(Config(), new) == ["mask.ratio: 0.75 -> 0.6", "optim.base_lr: 0.00015 -> 0.001"]
    assert differing_fields(new, new) == []


@pytest.mark.parametrize("section", [name for name in SECTIONS if name not in ("ingest", "curate")])
def test_differing_fields_ignores_runtime_fields_and_reports_all_others(section):
    for field in dataclasses.fields(getattr(Config(), section)):
        new = Config()
        value = getattr(getattr(new, section), field.name)
        setattr(getattr(new, section), field.name, {str: f"{value}x", tuple: ("x",)}.get(type(value)) or value + 1)
        reported = [change.split(":")[0] for change in differing_fields(Config(), new)]
        assert reported == ([] if field.metadata["runtime"] else [f"{section}.{field.name}"])


_WITH_VARIANTS = [file.stem for file in sorted((pathlib.Path(__file__).parents[1] / "configs").glob("*.py")) if file.stem != "demo"]


@pytest.mark.parametrize("file", _WITH_VARIANTS)
def test_an_unknown_variant_is_named_with_the_config_s_own_file(file):
    with pytest.raises(InputError, match=rf"^configs/{file}\.py:no_such: no such (variant|size)"):
        importlib.import_module(f"configs.{file}").get_config("no_such")
