"""The page of the ablation: figures in their cells, prose kept from one run of the command to the next."""

import pathlib

import pytest

pytest.importorskip("sklearn", reason="the benchmarks' packages are not installed: pip install 'rsfm_jax[benchmarks]'")

from benchmarks.ablation_page import write_page
from benchmarks.probe import PER_CLASS


def rows(accuracy: float) -> list[dict]:
    return [
        {"source": source, "per_class": n, "seed": seed, "accuracy": accuracy + 0.01 * seed, "macro_f1": 0.25, "train_n": 9, "test_n": 9}
        for source in ("map", "points", "polygons")
        for n in PER_CLASS
        for seed in (0, 1)
    ]


def test_figures_are_means_over_seeds_and_prose_is_kept(tmp_path: pathlib.Path):
    page = tmp_path / "ablation.md"
    done = {
        "steps": 10,
        "seeds": 2,
        "config": {"batch": 64, "width": 192, "depth": 6, "norm_pix": False},
        "probes": {"pixel": rows(0.5), "mae (last)": rows(0.7)},
        "losses": {"mae": [{"land_cover": 0.8}, {"land_cover": 0.9}]},
    }
    write_page(page, done)
    text = page.read_text()
    cells = next(line for line in text.splitlines() if line.startswith("| mae (last) |")).split(" | ")
    assert cells[1:3] == ["0.705 ± 0.007", "0.250 ± 0.000"]
    assert len(cells) == 1 + 2 * len(PER_CLASS)
    assert "| mae | 0.850 |" in text
    assert "Norm-pix" not in text
    page.write_text(text.replace("<!-- outcome -->\n", "<!-- outcome -->\nMasking matters.\n"))
    write_page(page, done)
    assert "Masking matters." in page.read_text()
