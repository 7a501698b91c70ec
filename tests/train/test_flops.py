"""The count of FLOPs, against XLA's own for a program without loops."""

import jax
import pytest

from configs import a2mae
from rsfm_jax.config import Config, ModelConfig
from rsfm_jax.layouts import Layout, Slot
from rsfm_jax.models.build import abstract_model
from rsfm_jax.models.spec import model_spec
from rsfm_jax.train.flops import stack_flops, step_flops
from rsfm_jax.train.program import make_program
from rsfm_jax.train.step import loss_fn


def test_a_block_by_hand():
    assert stack_flops(10, 8, 1, 4.0) == 2 * 10 * (3 * 8 * 8 + 8 * 8 + 2 * 8 * 32) + 2 * 2 * 10 * 10 * 8
    assert stack_flops(10, 8, 5, 4.0) == 5 * stack_flops(10, 8, 1, 4.0)


def test_the_encoder_reads_visible_tokens_and_the_decoder_all():
    config = a2mae.get_config("vit_l")
    (layout,) = config.ingest.layouts
    values = [slot.patch_values for slot in layout.slots]
    forward = stack_flops(3 * 49, 1024, 24, 4.0) + stack_flops(3 * 196, 512, 8, 4.0) + 2 * 3 * 49 * 1024 * 512
    forward += sum(2 * 49 * 1024 * v + 2 * 196 * 512 * v for v in values)
    assert step_flops(config, layout) == 3 * forward


@pytest.mark.parametrize("cls_token", [False, True])
def test_the_count_is_that_of_the_compiler(cls_token: bool):
    """XLA counts the same forward pass; the rest is masks, encodings, norms and softmax."""
    model = ModelConfig(192, 2, 4, 96, 2, 4, cls_token=cls_token, compute_dtype="float32", remat="none", unroll=0)
    layout = Layout("two", tuple(Slot("sentinel2_l2a", ("B02", "B03", "B04"), 10.0, pixels=64, patch=8) for _ in range(2)))
    config = Config(model=model)
    config.data.global_batch_size = 4
    program = make_program(config, (layout,), jax.devices()[:1])
    definition = abstract_model(model_spec(config, (layout,)))
    compiled = jax.jit(lambda p, b: loss_fn(p, definition, config, layout, b)[0]).lower(
        program.abstract.params, program.abstract_batch(layout)
    )
    counted = compiled.compile().cost_analysis()["flops"]
    assert step_flops(config, layout) / 3 * 4 == pytest.approx(counted, rel=0.1)
    assert step_flops(config, layout) / 3 * 4 < counted
