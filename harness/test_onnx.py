"""ONNX Runtime runs the format "onnx" on physical values."""

import json

from conftest import Case
import pytest
import torch

onnxruntime = pytest.importorskip("onnxruntime")


@pytest.mark.parametrize("name", ["cls-onnx", "plain-onnx"])
def test_every_output(name):
    case = Case(name)
    outputs = json.loads((case.folder / "config.json").read_text())["outputs"]
    session = onnxruntime.InferenceSession(case.folder / "model.onnx", providers=["CPUExecutionProvider"])
    found = dict(zip(outputs, map(torch.from_numpy, session.run(None, {"values": case.values.numpy()})), strict=True))
    case.check("onnxruntime", found["tokens"], case.tokens)
    case.check("onnxruntime", found["pooled"], case.tokens[:, case.first :].mean(dim=1))
    for i in range(4):
        case.check("onnxruntime", found[f"layer_{i}"], case.layers[i])
