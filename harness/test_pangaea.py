"""PANGAEA's contract with the encoder of rsfm_jax/torch/pangaea.py.

The library is in no package index. Where it isn't installed, this file stands in for it with a base class of the same attributes, and with
a decoder that asks of an encoder what PANGAEA's SegUPerNet and SegMTUPerNet ask; then the library itself was not run.
"""

import importlib.util
import logging
import sys
import types

from conftest import Case
import pytest
import torch
from torch import nn
import torch.nn.functional as F

LAYERS, BANDS = [0, 1, 2, 3], ["B2", "B3", "B4", "B8"]


class StandInEncoder(nn.Module):
    """The attributes that pangaea.encoders.base.Encoder sets, and its methods that others call."""

    def __init__(
        self,
        model_name,
        input_bands,
        input_size,
        embed_dim,
        output_layers,
        output_dim,
        multi_temporal,
        multi_temporal_output,
        pyramid_output,
        encoder_weights,
        download_url,
    ):
        super().__init__()
        self.model_name, self.input_bands, self.input_size, self.embed_dim = model_name, input_bands, input_size, embed_dim
        self.output_layers, self.encoder_weights, self.download_url = output_layers, encoder_weights, download_url
        self.output_dim = [output_dim] * len(output_layers) if isinstance(output_dim, int) else list(output_dim)
        self.multi_temporal, self.multi_temporal_output, self.pyramid_output = multi_temporal, multi_temporal_output, pyramid_output
        assert not download_url

    def load_encoder_weights(self, logger):
        raise NotImplementedError

    def enforce_single_temporal(self):
        return


if importlib.util.find_spec("pangaea") is None:
    for name in ("pangaea", "pangaea.encoders", "pangaea.encoders.base"):
        sys.modules[name] = types.ModuleType(name)
    sys.modules["pangaea.encoders.base"].Encoder = StandInEncoder

from rsfm_jax.torch.pangaea import RSFMPangaea  # noqa: E402


class Decoder(nn.Module):
    """A small decoder with the calls of PANGAEA's: one map per tapped layer, at 4, 2, 1 and 1/2 of the patches' grid."""

    def __init__(self, encoder, classes, dates=1):
        super().__init__()
        self.encoder = encoder
        taps = len(encoder.output_layers)
        self.scales = [1.0] * taps if encoder.pyramid_output else [(4.0, 2.0, 1.0, 0.5)[i * 4 // taps] for i in range(taps)]
        self.over_time = nn.Linear(dates, 1)
        self.lateral = nn.ModuleList(nn.Conv2d(width, 16, 1) for width in encoder.output_dim)
        self.head = nn.Conv2d(16, classes, 3, padding=1)

    def forward(self, images, output_shape):
        """images: (B, C, T, H, W) by modality, as the trainer gives them."""
        if self.encoder.multi_temporal:
            maps = self.encoder(images)
            if not self.encoder.multi_temporal_output:
                maps = [x[:, :, None] for x in maps]
        else:
            dates = range(next(iter(images.values())).shape[2])
            found = [self.encoder({name: x[:, :, t] for name, x in images.items()}) for t in dates]
            maps = [torch.stack(layer, dim=2) for layer in zip(*found, strict=True)]
        maps = [self.over_time(x.movedim(2, -1)).squeeze(-1) for x in maps]
        size = [4 * side for side in maps[0].shape[-2:]]
        total = 0
        for x, scale, lateral in zip(maps, self.scales, self.lateral, strict=True):
            total = total + F.interpolate(lateral(F.interpolate(x, scale_factor=scale)), size=size, mode="bilinear")
        return F.interpolate(self.head(total), size=output_shape, mode="bilinear")


def build(case, **changes):
    arguments = {"sensor": "sentinel2_l3a", "input_bands": {"optical": BANDS}, "bands": ["B02", "B03", "B04", "B08"], "gsd_m": 12.0}
    return RSFMPangaea(case.folder, **{"input_size": 16, "output_layers": LAYERS} | arguments | changes)


@pytest.mark.parametrize("name", ["cls-rsfm", "plain-rsfm"])
def test_maps_are_those_of_jax(name):
    """Without a date, as PANGAEA's encoders are called; here the token for it is set to that of the expected features."""
    case = Case(name, f"{name}-one")
    encoder = build(case)
    encoder.load_encoder_weights(logging.getLogger())
    time = encoder.images.encoder.encodings.time
    time.unknown.data = time(case.time[:1, 0])[0]
    with torch.no_grad():
        *maps, last = encoder.eval()({"optical": case.values})
    assert (encoder.embed_dim, encoder.output_dim, encoder.output_layers) == (48, [48] * 4, LAYERS)
    for found, expected in [*zip(maps, case.layers[:-1], strict=True), (last, case.tokens)]:
        expected = expected[:, case.first :].transpose(1, 2).unflatten(2, (5, 4))
        case.check("PANGAEA's contract", found, expected)


def test_weights_come_with_load_encoder_weights(caplog):
    case = Case("cls-rsfm")
    encoder = build(case)
    before = encoder.images.encoder.blocks[0].attn.qkv.weight.clone()
    with caplog.at_level(logging.INFO):
        encoder.load_encoder_weights(logging.getLogger())
    assert not torch.equal(before, encoder.images.encoder.blocks[0].attn.qkv.weight)
    assert "loaded" in caplog.text


@pytest.mark.parametrize(
    ("multi_temporal", "dates", "layers"),
    [(False, 1, LAYERS), (True, 1, LAYERS), (False, 2, LAYERS), (True, 2, LAYERS), (True, 2, [0, 1, 2])],
)
def test_a_decoder_learns(multi_temporal, dates, layers):
    case = Case("cls-rsfm")
    encoder = build(case, multi_temporal=multi_temporal, scale=1e-4, output_layers=layers)
    encoder.load_encoder_weights(logging.getLogger())
    model = Decoder(encoder, 2, dates).train()
    images = {"optical": case.values[:, :, :dates] * 1e4}
    target = (case.values[:, 3, 0] > case.values[:, 3, 0].median()).long()
    optimizer, losses = torch.optim.AdamW(model.parameters(), lr=3e-3), []
    for _ in range(8):
        loss = F.cross_entropy(model(images, output_shape=target.shape[-2:]), target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.9 * losses[0], losses
    assert encoder.images.encoder.blocks[0].attn.qkv.weight.grad.abs().sum() > 0
    assert [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None] == []  # else distributed training stops


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"input_bands": {"optical": BANDS, "sar": ["VV"]}}, "input_bands have 2 modalities"),
        ({"bands": ["B02"]}, "bands are B02; expected one for each of input_bands: B2, B3, B4, B8"),
        ({"bands": None}, "bands B2, B3, B4, B8 are not together"),
        ({"download_url": "https://example.org"}, "expected none"),
    ],
)
def test_bad_arguments(changes, said):
    with pytest.raises(ValueError, match=said):
        build(Case("cls-rsfm"), **changes)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda x, e: e({"sar": x}), "x holds sar; expected 'optical'"),
        (lambda x, e: e({"optical": x[:, :, None]}), r"with multi_temporal=False expected \(B, C, H, W\)"),
        (lambda x, e: e({"optical": 1e4 * x}), "raw digital numbers"),
    ],
)
def test_bad_inputs(call, said):
    case = Case("cls-rsfm", "cls-rsfm-one")
    with pytest.raises(ValueError, match=said):
        call(case.values, build(case))
