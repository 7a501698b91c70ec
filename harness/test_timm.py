"""timm loads the format "timm" by its own ``local-dir:``."""

from conftest import Case
import pytest
from safetensors.torch import load_file
import timm
import torch


@pytest.mark.parametrize("name", ["cls-timm", "plain-timm"])
def test_every_layer(name):
    case = Case(name)
    model = timm.create_model(f"local-dir:{case.folder}", pretrained=True).eval()
    state, file = model.state_dict(), load_file(case.folder / "model.safetensors")
    assert state.keys() == file.keys()
    assert all(torch.equal(state[key], file[key]) for key in file)
    with torch.no_grad():
        options = {"norm": False, "output_fmt": "NLC", "return_prefix_tokens": bool(case.first)}
        tokens, layers = model.forward_intermediates(case.normalised, **options)
        pooled = model(case.normalised)
    if case.first:
        layers = [torch.cat([prefix, patches], dim=1) for patches, prefix in layers]
    assert len(layers) == 4
    case.check("timm", tokens, case.tokens)
    case.check("timm", torch.stack(layers), case.layers)
    case.check("timm", pooled, case.tokens[:, case.first :].mean(dim=1))


def test_the_preprocessing_is_in_the_config():
    case = Case("cls-timm")
    config = timm.data.resolve_data_config({}, model=timm.create_model(f"local-dir:{case.folder}", pretrained=True))
    mean, std = (torch.tensor(config[key])[:, None, None] for key in ("mean", "std"))
    torch.testing.assert_close((case.values - mean) / std, case.normalised, atol=1e-5, rtol=1e-5)
    assert config["input_size"] == (4, 20, 16)
