"""Tables of the pages that benchmarks write."""

import pytest

from benchmarks.downstream import PER_CLASS, PROBED, SEGMENTED, probe_table, segmentation_table
from benchmarks.pages import markdown_table, replace_between
from rsfm_jax.errors import InputError


def test_only_what_lies_between_the_markers_is_replaced(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- one -->\nold\n<!-- end of one -->\nafter\n")
    replace_between(page, "one", markdown_table(("a", "b"), [(1, "x")]))
    assert page.read_text() == "before\n<!-- one -->\n| a | b |\n|---|---|\n| 1 | x |\n<!-- end of one -->\nafter\n"
    with pytest.raises(InputError, match=r"page.md: lacks the markers <!-- two -->"):
        replace_between(page, "two", "")


def _probed(features: str, layer: int | None, pooling: str | None, per_class: int | None, accuracy: float) -> dict[str, object]:
    keys = {"features": features, "layer": layer, "pooling": pooling, "probe": "linear", "per_class": per_class}
    return {**keys, "accuracy": accuracy, "accuracy_sd": 0.0104, "macro_f1": accuracy / 2}


def test_rows_are_features_and_columns_are_tasks_and_labels():
    rows = [_probed("small", -1, "mean+token", n, 0.5 if n else 0.75) for n in PER_CLASS]
    rows += [
        _probed("small", -1, "mean", None, 0.1),
        _probed("raw_pixels", None, None, None, 0.625),
        _probed("raw_pixels", None, None, 10, 0.25),
    ]
    head, _, *lines = probe_table(dict.fromkeys(PROBED, rows)).splitlines()
    assert head == "| features | layer | points, all | points, 10 | polygons, all | polygons, 10 |"
    assert lines == [
        "| small | -1 |" + 2 * " 0.750 ± 0.010 / 0.375 | 0.500 ± 0.010 / 0.250 |",
        "| raw pixels | - |" + 2 * " 0.625 ± 0.010 / 0.312 | 0.250 ± 0.010 / 0.125 |",
    ]


def test_segmentation_says_what_was_trained():
    rows = [{"features": "small", "mode": "lora", "mean_iou": 0.5, "mean_iou_sd": 0.02}]
    rows += [{"features": "none", "mode": None, "mean_iou": 0.25, "mean_iou_sd": 0.0}]
    assert segmentation_table(dict.fromkeys(SEGMENTED, rows)).splitlines()[2:] == [
        "| small | lora | 0.500 ± 0.020 | 0.500 ± 0.020 |",
        "| none | - | 0.250 ± 0.000 | 0.250 ± 0.000 |",
    ]
