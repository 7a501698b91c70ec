"""transformers loads the format "transformers" whole: ViT, I-JEPA without class token, ViTMAE with the decoder."""

from conftest import Case
import pytest
import torch
import transformers


@pytest.mark.parametrize(("name", "architecture"), [("cls-transformers", "ViTModel"), ("plain-transformers", "IJepaModel")])
def test_every_layer(name, architecture):
    case = Case(name)
    loader = getattr(transformers, architecture)
    model, report = loader.from_pretrained(case.folder, add_pooling_layer=False, output_loading_info=True)
    assert not any(report.values()), report
    with torch.no_grad():
        out = model.eval()(case.normalised, output_hidden_states=True)
    case.check("transformers", out.last_hidden_state, case.tokens)
    case.check("transformers", torch.stack(out.hidden_states[1:]), case.layers)


def test_the_masked_autoencoder():
    case = Case("cls-mae")
    model, report = transformers.ViTMAEForPreTraining.from_pretrained(case.folder, output_loading_info=True)
    assert not any(report.values()), report
    model.config.mask_ratio = 0.0
    noise = torch.arange(16.0).expand(len(case.normalised), -1)
    with torch.no_grad():
        out = model.eval().vit(case.normalised, noise=noise, output_hidden_states=True)
    case.check("transformers", out.last_hidden_state, case.tokens)
    case.check("transformers", torch.stack(out.hidden_states[1:]), case.layers)
    model.config.mask_ratio = 0.75
    loss = model(case.normalised).loss
    loss.backward()
    assert 0.1 < loss.item() < 10
    assert model.vit.embeddings.patch_embeddings.projection.weight.grad.abs().sum() > 0


def test_the_image_processor_normalises():
    case = Case("cls-transformers")
    processor = transformers.AutoImageProcessor.from_pretrained(case.folder)
    mean, std = (torch.tensor(x)[:, None, None] for x in (processor.image_mean, processor.image_std))
    assert not processor.do_resize
    assert not processor.do_rescale
    torch.testing.assert_close((case.values - mean) / std, case.normalised, atol=1e-5, rtol=1e-5)
