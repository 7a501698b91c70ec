"""Frozen, low-rank and full fine-tuning of a real encoder."""

import copy

import pytest

torch = pytest.importorskip("torch", reason="no CPU wheel of PyTorch for this Python")

import torch.nn.functional as F  # noqa: E402

from rsfm_jax.torch.features import layer_grids  # noqa: E402
from rsfm_jax.torch.heads.pooled import PooledLinear  # noqa: E402
from rsfm_jax.torch.heads.segmentation import LinearSegmentation  # noqa: E402
from rsfm_jax.torch.tuning import LoRALinear, add_lora, freeze, layer_decay_groups, merge_lora, prepare  # noqa: E402
from tests.torch_side.heads.training import overfit  # noqa: E402
from tests.torch_side.small_encoder import DEPTH, WIDTH, optical, panchromatic, small_encoder  # noqa: E402


@pytest.fixture
def encoder():
    return small_encoder()


@pytest.fixture
def members():
    torch.manual_seed(1)
    return [optical(3, 8, 12), panchromatic(3, 8, 16)]


def covers_once(groups, *modules):
    """Whether each trainable parameter of the modules is in exactly one group, and nothing else is."""
    ours = sorted(id(p) for group in groups for p in group["params"])
    return ours == sorted({id(p) for module in modules for p in module.parameters() if p.requires_grad})


def tuned(encoder, std=0.1):
    """LoRA with updates that are not zero."""
    names = add_lora(encoder, rank=3, alpha=6.0)
    for name, p in encoder.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(p, std=std)
    return names


def test_lora_changes_nothing_at_the_start_and_trains_nothing_else(encoder, members):
    before = encoder(members).tokens
    names = add_lora(encoder, rank=3)
    assert names == [f"blocks.{i}.attn.{layer}" for i in range(DEPTH) for layer in ("qkv", "proj")]  # not the encodings' proj
    after = encoder(members).tokens
    assert torch.equal(before, after)
    trainable = {name for name, p in encoder.named_parameters() if p.requires_grad}
    assert trainable == {f"{name}.lora_{x}" for name in names for x in "AB"}


def test_the_update_is_b_a_x_times_alpha_over_rank():
    torch.manual_seed(0)
    linear = torch.nn.Linear(7, 5)
    layer = LoRALinear(linear, rank=2, alpha=6.0)
    torch.nn.init.normal_(layer.lora_B)
    x = torch.randn(4, 3, 7)
    expected = x @ (linear.weight + 3.0 * layer.lora_B @ layer.lora_A).T + linear.bias
    torch.testing.assert_close(layer(x), expected)


def test_merging_gives_the_same_tokens_and_plain_modules(encoder, members):
    names = set(encoder.state_dict())
    plain = encoder(members).tokens
    adapted = tuned(encoder)
    with torch.no_grad():
        before = encoder(members).tokens
        assert merge_lora(encoder) == adapted
        after = encoder(members).tokens
    assert (before - plain).abs().max() > 0.05
    assert (before - after).abs().max() < 5e-6  # float32; tokens reach 3
    assert set(encoder.state_dict()) == names
    assert all(type(encoder.get_submodule(name)) is torch.nn.Linear for name in adapted)
    strict = small_encoder()
    strict.load_state_dict(encoder.state_dict(), strict=True)
    assert torch.equal(strict(members).tokens, encoder(members).tokens)
    with pytest.raises(ValueError, match="was it merged already"):
        merge_lora(encoder)


def test_one_layer_merges_within_1e_6_in_float32_and_keeps_a_missing_bias():
    torch.manual_seed(0)
    for bias in (True, False):
        layer = LoRALinear(torch.nn.Linear(24, 24, bias=bias), rank=4, alpha=4.0)
        torch.nn.init.normal_(layer.lora_B, std=0.1)
        x = torch.randn(16, 24)
        before = layer(x)
        merged = layer.merged()
        assert (merged.bias is not None) == bias
        assert (merged(x) - before).abs().max() < 1e-6


def test_an_adapted_model_loads_pretrained_weights_by_their_own_names(encoder):
    weights = copy.deepcopy(encoder.state_dict())
    names = add_lora(encoder)
    result = encoder.load_state_dict(weights, strict=False)
    assert result.unexpected_keys == []
    assert result.missing_keys == [f"{name}.lora_{x}" for name in names for x in "AB"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"targets": ("qkv", "query")}, "no layer named 'query' in blocks"),
        ({"targets": ()}, "no layer named at all in blocks"),
        ({"targets": ("norm1",)}, "norm1 is a LayerNorm; expected a plain nn.Linear"),
        ({"rank": 0}, "rank is 0; expected 1 to 24, the smaller side of blocks.0.attn.qkv"),
        ({"rank": 25}, "rank is 25"),
    ],
)
def test_wrong_lora_is_named_and_changes_nothing(encoder, options, message):
    with pytest.raises(ValueError, match=message):
        add_lora(encoder, **options)
    assert all(p.requires_grad for p in encoder.parameters())
    assert not any(isinstance(layer, LoRALinear) for layer in encoder.modules())


def test_lora_is_added_once_and_needs_blocks(encoder):
    add_lora(encoder)
    with pytest.raises(ValueError, match=r"blocks\.0\.attn\.qkv is a LoRALinear"):
        add_lora(encoder)
    with pytest.raises(ValueError, match="expected one list of modules named 'blocks' in Linear, found none"):
        add_lora(torch.nn.Linear(2, 2))
    with pytest.raises(ValueError, match=r"found optical\.blocks, radar\.blocks"):
        add_lora(torch.nn.ModuleDict({"optical": small_encoder(), "radar": small_encoder()}))


def test_layer_decay_by_hand(encoder):
    """Four blocks, decay 0.5: the head at 1, blocks 3 to 0 at 1/2, 1/4, 1/8, 1/16, what comes before them at 1/32."""
    groups = layer_decay_groups(encoder, lr=1.0, weight_decay=0.05, decay=0.5)
    assert covers_once(groups, encoder)
    names = {id(p): name for name, p in encoder.named_parameters()}
    lr = {names[id(p)]: group["lr"] for group in groups for p in group["params"]}
    decayed = {names[id(p)]: group["weight_decay"] for group in groups for p in group["params"]}
    assert lr["norm.weight"] == 1.0
    for i in range(DEPTH):
        assert {value for name, value in lr.items() if name.startswith(f"blocks.{i}.")} == {0.5 ** (DEPTH - i)}
    for name in ("patch_embed.sentinel2_l2a-p4.weight", "cls_token", "encodings.time.proj.weight", "encodings.slot.landsat8_l1-p8"):
        assert lr[name] == 1 / 32
    assert decayed["blocks.2.mlp.fc1.weight"] == decayed["patch_embed.landsat8_l1-p8.weight"] == 0.05
    for name, p in encoder.named_parameters():
        if p.ndim == 1:
            assert decayed[name] == 0.0, name


def test_layer_decay_of_a_model_with_a_head_and_tables_of_tokens():
    class Timm(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.patch_embed = torch.nn.Conv2d(3, 8, 4)
            self.cls_token = torch.nn.Parameter(torch.zeros(1, 1, 8))
            self.pos_embed = torch.nn.Parameter(torch.zeros(1, 5, 8))
            self.fixed = torch.nn.Parameter(torch.zeros(2, 2), requires_grad=False)
            self.blocks = torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.Linear(8, 8))
            self.norm = torch.nn.LayerNorm(8)
            self.head = torch.nn.Linear(8, 2)

    model = torch.nn.ModuleDict({"encoder": Timm(), "decoder": torch.nn.Linear(8, 3)})
    groups = layer_decay_groups(model, lr=0.1, weight_decay=0.3, decay=0.1)
    assert covers_once(groups, model)
    names = {id(p): name for name, p in model.named_parameters()}
    table = {group["name"]: (group["lr"], group["weight_decay"], sorted(names[id(p)] for p in group["params"])) for group in groups}
    expected = {
        "layer 0": (1e-4, 0.3, ["encoder.patch_embed.weight"]),
        "layer 0, no decay": (1e-4, 0.0, ["encoder.cls_token", "encoder.patch_embed.bias", "encoder.pos_embed"]),
        "layer 1": (1e-3, 0.3, ["encoder.blocks.0.weight"]),
        "layer 1, no decay": (1e-3, 0.0, ["encoder.blocks.0.bias"]),
        "layer 2": (1e-2, 0.3, ["encoder.blocks.1.weight"]),
        "layer 2, no decay": (1e-2, 0.0, ["encoder.blocks.1.bias"]),
        "layer 3": (0.1, 0.3, ["decoder.weight", "encoder.head.weight"]),
        "layer 3, no decay": (0.1, 0.0, ["decoder.bias", "encoder.head.bias", "encoder.norm.bias", "encoder.norm.weight"]),
    }
    assert list(table) == list(expected)
    for name, (lr, weight_decay, parameters) in expected.items():
        assert table[name] == (pytest.approx(lr), weight_decay, parameters)


def test_wrong_decay_is_named(encoder):
    for decay in (0.0, 1.1):
        with pytest.raises(ValueError, match="expected more than 0 and at most 1"):
            layer_decay_groups(encoder, 1.0, 0.0, decay)
    freeze(encoder)
    with pytest.raises(ValueError, match="no parameter to train; call requires_grad_"):
        layer_decay_groups(encoder, 1.0, 0.0, 1.0)


MODES = {"frozen": 0, "lora": 2 * 2 * DEPTH, "full": None}


@pytest.mark.parametrize("mode", MODES)
def test_what_each_mode_trains(encoder, members, mode):
    """One step of AdamW moves exactly what the mode names, and the loss falls in a few."""
    head = LinearSegmentation(WIDTH, 3, layers=2)
    before = copy.deepcopy(encoder.state_dict())
    groups = prepare(encoder, mode, lr=1e-2, head=head, rank=2)
    assert covers_once(groups, encoder, head)
    assert max(group["lr"] for group in groups) == 1e-2
    trainable = [name for name, p in encoder.named_parameters() if p.requires_grad]
    assert len(trainable) == (len(before) if MODES[mode] is None else MODES[mode])
    target = torch.randint(3, (3, 8, 12))

    def loss():
        out = encoder(members, return_layers=True)
        return F.cross_entropy(head(layer_grids(encoder, out, layers=[1, 3], norm=True), (8, 12)), target)

    start = float(loss().detach())
    assert overfit(groups, loss, 8, 1e-2) < 0.95 * start
    after = encoder.state_dict()
    same = {name for name in before if torch.equal(before[name], after[name])}
    without_part = {name for name in before if "unknown" in name or name.startswith("encodings.time.proj")}  # no dates, no places: no part
    without_part |= {name for name in before if name.startswith("encodings.place.proj")}
    if mode == "full":
        assert same <= without_part
    else:
        assert same == set(before)


def test_lora_learns_what_the_frozen_encoder_cannot(encoder):
    """Labels by heart from one pooled feature: a linear head alone can't separate them, low-rank updates can."""
    torch.manual_seed(0)
    chips, y = [optical(8, 8, 8)], torch.tensor([0, 1] * 4)
    head = PooledLinear(1, 2)

    def loss():
        return F.cross_entropy(head(encoder(chips).pooled[:, :1]), y)

    frozen = overfit(prepare(encoder, "frozen", lr=5e-2, head=head), loss, 60, 5e-2)
    assert overfit(prepare(encoder, "lora", lr=2e-2, head=head, rank=4), loss, 80, 2e-2) < 0.3 * frozen


def test_a_frozen_module_is_in_evaluation_mode():
    model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Dropout(0.5)).train()
    freeze(model)
    assert not any(module.training for module in model.modules())
    assert not any(p.requires_grad for p in model.parameters())


@pytest.mark.parametrize("mode", MODES)
def test_a_head_inside_the_model_would_be_frozen_and_is_refused(encoder, mode):
    encoder.head = torch.nn.Linear(WIDTH, 2)
    with pytest.raises(ValueError, match="give the encoder alone as model"):
        prepare(encoder, mode, lr=1.0, head=encoder.head)
    assert all(p.requires_grad for p in encoder.parameters())


def test_wrong_modes_are_named(encoder):
    with pytest.raises(ValueError, match="mode is 'partial'; expected 'frozen', 'lora' or 'full'"):
        prepare(encoder, "partial", lr=1.0)
    with pytest.raises(ValueError, match="mode 'frozen' leaves nothing to train; give a head"):
        prepare(encoder, "frozen", lr=1.0)
