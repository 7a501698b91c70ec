"""docs/ablation.md, from the figures of benchmarks/ablation.py."""

import pathlib
from typing import Any

from benchmarks.probe import DRAWS, PER_CLASS, aggregate

SOURCES = {
    "map": "Map (7 classes, noisy; 4,000 pixels west for training, 4,000 east for the test)",
    "points": "Points (all there are)",
    "polygons": "Polygons (at most 50 pixels of each)",
}


def write_page(page: pathlib.Path, done: dict[str, Any]) -> None:
    """Writes the page; prose about the outcome stands between the markers of the old page and is kept."""
    lines = [*_head(done), *_kept(page)]
    for source, title in SOURCES.items():
        lines += ["", f"## {title}", "", *probe_table(done["probes"], source)]
    lines += ["", "## Loss", "", *_losses(done["losses"], done["config"]["norm_pix"]), ""]
    page.write_text("\n".join(lines))


def _head(done: dict[str, Any]) -> list[str]:
    config = done["config"]
    return [
        "# Ablation: masking, location, GSD",
        "",
        f"Made by `python benchmarks/ablation.py --seeds={done['seeds']} --steps={done['steps']}`: an encoder {config['width']} wide with "
        f"{config['depth']} blocks, {done['steps']} steps of {config['batch']} image sets, {done['seeds']} seeds, on the Landsat 7 scene "
        "that is probed (unlabelled, its test side too), and the example scenes of Landsat 7 and 8 and of the Sentinel-2 series. Frozen "
        "features, logistic regression, trained in the west of the scene and tested in the east, 32 pixels apart. Figures: mean ± standard "
        "deviation over the seeds of pretraining and label draws; for few labels a seed's figure is already the mean of "
        f"{DRAWS} draws, and the test area is the same for all seeds, so the ± says nothing of another area. "
        "`configs/ablation.py` says what each variant is.",
        "",
    ]


_BEGIN, _END = "<!-- outcome -->", "<!-- end of outcome -->"


def _kept(page: pathlib.Path) -> list[str]:
    text = page.read_text() if page.exists() else ""
    inside = text.split(_BEGIN)[1].split(_END)[0].strip() if _BEGIN in text and _END in text else ""
    return [_BEGIN, inside, _END]


def probe_table(probes: dict[str, list[dict[str, Any]]], source: str) -> list[str]:
    """The lines of a table of one source of labels: a row for each features, accuracy and macro-F1 for each number of labels.

    Args:
      probes: Rows of `benchmarks.probe.evaluate` over all seeds, by the name of the features.
      source: One of `SOURCES`.
    """
    amounts = ["all labels" if n is None else f"{n} a class" for n in PER_CLASS]
    lines = ["| features | " + " | ".join(f"{a}: accuracy | {a}: macro-F1" for a in amounts) + " |", "|---" * (1 + 2 * len(amounts)) + "|"]
    for name, rows in probes.items():
        means = {row["per_class"]: row for row in aggregate([row for row in rows if row["source"] == source])}
        cells = [_figure(means[n], metric) for n in PER_CLASS for metric in ("accuracy", "macro_f1")]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return lines


def _figure(row: dict[str, Any], metric: str) -> str:
    spread = row[f"{metric}_sd"]
    return f"{row[metric]:.3f}" + ("" if spread is None else f" ± {spread:.3f}")


def _losses(losses: dict[str, list[dict[str, float]]], norm_pix: bool) -> list[str]:
    """The mean loss of the last tenth of the steps."""
    layouts = sorted({name for runs in losses.values() for run in runs for name in run})
    kind = "Norm-pix error" if norm_pix else "Squared error of the standardised values"
    lines = [f"{kind} over the last tenth of the steps, mean over the seeds; masks differ, so it does not rank the variants.", ""]
    lines += ["| variant | " + " | ".join(layouts) + " |", "|---" * (1 + len(layouts)) + "|"]
    for variant, runs in losses.items():
        means = [[run[name] for run in runs if name in run] for name in layouts]
        lines.append(f"| {variant} | " + " | ".join(f"{sum(x) / len(x):.3f}" if x else "-" for x in means) + " |")
    return lines
