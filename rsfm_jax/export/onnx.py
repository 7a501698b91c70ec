"""ONNX: physical values in, pooled features, tokens and tapped layers out; the graph normalises, the batch size is free."""

import contextlib
import io
import json
import pathlib
import warnings

import numpy as np
import torch
from torch import nn

from rsfm_jax.config import Config, ModelConfig
from rsfm_jax.export.baking import Baked
from rsfm_jax.export.files import Encode, Format
from rsfm_jax.export.timm import timm_names
from rsfm_jax.torch.plain_vit import PlainVit

WEIGHTS = "model.onnx"
OPSET = 20
_TAPS = 4


class Physical(nn.Module):
    """The graph: normalises, encodes, pools."""

    def __init__(self, baked: Baked, model: ModelConfig) -> None:
        super().__init__()
        state = {name: torch.from_numpy(array) for name, array in timm_names(baked.encoder).items()}
        self.vit = PlainVit.of_state_dict(state, model.heads)
        self.first, self.taps = int(model.cls_token), tapped(model.depth)
        self.mean, self.std = (nn.Buffer(torch.tensor([band[name] for band in baked.bands])[:, None, None]) for name in ("mean", "std"))

    def forward(self, values: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Physical values (B, C, H, W) to pooled (B, D), tokens (B, T, D) and the tapped layers' tokens."""
        tokens, layers = self.vit((values - self.mean) / self.std)
        return tokens[:, self.first :].mean(dim=1), tokens, *(layers[i] for i in self.taps)


def tapped(depth: int) -> list[int]:
    """The layers that are outputs: at every quarter of the depth, counted from 0."""
    return sorted({max(0, depth * (i + 1) // _TAPS - 1) for i in range(_TAPS)})


def outputs(model: ModelConfig) -> list[str]:
    """Names of the outputs."""
    return ["pooled", "tokens", *(f"layer_{i}" for i in tapped(model.depth))]


def write(baked: Baked, config: Config, folder: pathlib.Path, decoder: bool) -> None:
    """Writes model.onnx (above 1.5 GB with model.onnx.data beside it) and config.json into a folder."""
    del decoder
    graph, names = Physical(baked, config.model).eval(), outputs(config.model)
    size = sum(parameter.numel() * 4 for parameter in graph.parameters())
    example = torch.zeros(2, len(baked.bands), *baked.size)
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        torch.onnx.export(
            graph,
            (example,),
            folder / WEIGHTS,
            input_names=["values"],
            output_names=names,
            dynamic_shapes=({0: torch.export.Dim("batch", min=1)},),
            opset_version=OPSET,
            external_data=size > 1.5e9,
            dynamo=True,
            verbose=False,
        )
    described = {"input": "values", "outputs": names, "opset": OPSET}
    (folder / "config.json").write_text(json.dumps(described, indent=1) + "\n")


def read(baked: Baked, config: Config, folder: pathlib.Path) -> Encode:
    """Runs the file with ONNX Runtime; layers that are no output come back as None."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(folder / WEIGHTS), providers=["CPUExecutionProvider"])
    mean, std = (np.array([band[name] for band in baked.bands], np.float32)[:, None, None] for name in ("mean", "std"))

    def encode(values: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor | None]]:
        found = session.run(None, {"values": (values.numpy() * std + mean).astype(np.float32)})
        named = dict(zip(outputs(config.model), map(torch.from_numpy, found), strict=True))
        return named["tokens"], [named.get(f"layer_{i}") for i in range(config.model.depth)]

    return encode


def usage(baked: Baked, config: Config, decoder: bool) -> list[str]:
    """Lines of Python for the model card."""
    del config, decoder
    return [
        "import onnxruntime",
        "",
        'session = onnxruntime.InferenceSession("model.onnx")',
        f"# values: float32 (B, {len(baked.bands)}, {baked.size[0]}, {baked.size[1]}), physical",
        'pooled, tokens, *layers = session.run(None, {"values": values})',
    ]


FORMAT = Format("ONNX", ("onnx", "onnxscript", "onnxruntime"), "physical, in the table's units", write, read, usage)
