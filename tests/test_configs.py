"""Every experiment in configs/ is valid, builds its model for layouts it is meant for, and draws masks there."""

import importlib
import pathlib
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import ablation, demo, downstream
from rsfm_jax.config import Config
from rsfm_jax.errors import InputError
from rsfm_jax.layouts import Layout, Slot
from rsfm_jax.models.build import abstract_model, count_params
from rsfm_jax.models.spec import model_spec, token_layout
from rsfm_jax.objectives.masking import sample_masks
from rsfm_jax.sizes import SIZES

_RGB = Slot("neon_rgb", ("R", "G", "B"), 0.1, pixels=224, patch=16)
_S2 = Slot("sentinel2_l2a", ("B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B11", "B12"), 10.0, pixels=96, patch=8)
_S2_ALL = Slot("sentinel2_l2a", ("B01", *_S2.bands[:8], "B09", "B11", "B12"), 10.0, pixels=96, patch=8)
SINGLE = (Layout("single", (_RGB,)),)
SERIES = (Layout("series", (_S2, _S2, _S2)),)
THREE = (Layout("three", tuple(Slot("sentinel2_l2a", _S2.bands, 10.0, pixels=224, patch=16) for _ in range(3))),)
EXPERIMENTS = [
    *(("mae", size, SINGLE, None) for size in SIZES),
    *(("a2mae", size, demo.layouts(), None) for size in SIZES),
    ("a2mae", "vit_l_released", THREE, 3),
    ("satmae", "spectral", (Layout("one", (_S2,)),), 3),
    ("satmae", "temporal", SERIES, 3),
    ("scalemae", "vit_l", SINGLE, None),
    ("prithvi", "vit_l", SERIES, 3),
    ("spectralgpt", "vit_b", (Layout("one", (_S2_ALL,)),), 4),
    *(
        ("ablation", f"{mask}{geo}{gsd}", ablation.layouts(), None)
        for mask in ablation.TABLES
        for geo in ("", "-nogeo")
        for gsd in ("", "-nogsd")
    ),
    ("ablation", "mae", ablation.layouts(), None),
    *(("downstream", variant, downstream.layouts(), None) for variant in ("a2mae", "mae")),
]


def load(name: str, variant: str) -> Config:
    """The config of configs/name.py:variant."""
    return importlib.import_module(f"configs.{name}").get_config(variant).validate()


@pytest.mark.parametrize(("name", "variant", "layouts", "slots"), EXPERIMENTS, ids=[f"{e[0]}:{e[1]}" for e in EXPERIMENTS])
def test_experiments_build(name: str, variant: str, layouts: tuple[Layout, ...], slots: int | None):
    config = load(name, variant)
    spec = model_spec(config, layouts)
    assert count_params(abstract_model(spec).shapes) > 1e6
    tokens = token_layout(layouts[0], config.tokenizer).layout
    assert slots is None or len(tokens.slots) == slots
    grids = [jnp.array([[-120.0, 120.0, s.gsd_m, s.gsd_m]]) for s in tokens.slots]
    real = [jnp.ones((1, s.tokens), bool) for s in tokens.slots]
    times = [jnp.array([[1.0, 2020.0, 10.0 * t]]) for t in range(len(tokens.slots))]
    masks = jax.eval_shape(lambda key: sample_masks(key, tokens, config.mask, grids, times, real), jax.random.split(jax.random.key(0), 1))
    kept = [ids.shape[1] / s.tokens for ids, s in zip(masks.ids_keep, tokens.slots, strict=True)]
    np.testing.assert_allclose(kept, 1 - config.mask.ratio, atol=0.06)


def test_the_table_of_sizes_is_the_papers():
    def parameters(size: str) -> float:
        """Of a ViT/16 at 224 pixels without its head: a class token, learned positions, a final norm; in millions."""
        width, depth, _, mlp_ratio = SIZES[size]
        hidden = int(width * mlp_ratio)
        block = 4 * width * width + 2 * width * hidden + 4 * width + width + hidden + 4 * width
        return (depth * block + 197 * width + width + 768 * width + width + 2 * width) / 1e6

    published = {"vit_ti": 5.5, "vit_s": 21.7, "vit_b": 85.8, "vit_l": 303.3, "vit_h": 630.8, "vit_g": 1011.6}
    for size, millions in published.items():
        assert abs(parameters(size) / millions - 1) < 0.01, size


@pytest.mark.parametrize(
    ("name", "variant", "words"),
    [
        ("a2mae", "vit_x", "did you mean 'vit_"),
        ("mae", "base", "no such size 'base'"),
        ("satmae", "spectrl", "did you mean 'spectral'"),
        ("ablation", "anchor-aware", "no such variant"),
        ("ablation", "mae-nogeo", "no such variant"),
        ("ablation", "random-nogo", "no such variant"),
    ],
)
def test_unknown_variants_are_named(name: str, variant: str, words: str):
    with pytest.raises(InputError, match=words):
        load(name, variant)


def test_the_released_layout_needs_its_width_and_members():
    with pytest.raises(InputError, match=r"model\.width=1024 for 3 members"):
        model_spec(load("a2mae", "vit_b_released"), THREE)
    with pytest.raises(InputError, match="layout 'mixed' must have 3 members of one patch grid"):
        model_spec(load("a2mae", "vit_l_released"), (*THREE, Layout("mixed", (THREE[0].slots[0], _S2, _S2))))


def test_every_experiment_file_says_what_it_is(repo: pathlib.Path):
    for file in (repo / "configs").glob("*.py"):
        text = file.read_text().split('"""')[1]
        missing = [word for word in ("Paper:", "Hardware:", "Command:", "Expected loss") if word not in text]
        assert missing == [], f"{file.name}: {missing}"


def test_every_experiment_file_has_a_figure_for_its_loss_or_names_the_page_that_has(repo: pathlib.Path):
    figure = re.compile(r"\b\d+\.\d+\b")
    for file in (repo / "configs").glob("*.py"):
        said = file.read_text().split('"""')[1].split("Expected loss")[1]
        if not figure.search(said):
            pages = re.findall(r"docs/\w+\.md", said)
            assert pages, f"{file.name}: neither a figure nor a page"
            for page in pages:
                assert figure.search((repo / page).read_text().partition("## Loss\n")[2]), f"{file.name}: {page}"
