"""report.html: clusters with pictures, a map, the coverage, the rejections; one page that needs no other file."""

from collections import Counter
from collections.abc import Mapping
import dataclasses
import io
import pathlib
from typing import Any

from matplotlib.figure import Figure
import numpy as np
from PIL import Image

from rsfm_jax.curate.coverage import Coverage
from rsfm_jax.curate.descriptors import decode_member
from rsfm_jax.curate.hierarchy import Clustering
from rsfm_jax.curate.manifest import Outcome
from rsfm_jax.curate.pool import Pool, Source
from rsfm_jax.curate.scaling import Scaling
from rsfm_jax.data.dataset import Dataset, open_dataset
from rsfm_jax.display import INVALID, shown_channels, stretched
from rsfm_jax.errors import InputError
from rsfm_jax.layouts import Layout
from rsfm_jax.pages import STYLE, figure_image, page, png_image, table, text

REPORT_FILE = "report.html"
CLUSTERS, MEMBERS = 12, 6  # shown of a layout, and of a cluster
_STD = 2.0  # of a band's values, on either side of the mean, from black to white
_NOT_VALID = (200, 60, 160)
_MAP_POINTS = 50_000
_STYLE = "figure{display:inline-block;margin:.2rem;text-align:center;font-size:11px}.pixels{width:104px;image-rendering:pixelated}"
_STYLE += ".pixels{border:3px solid transparent}.kept{border-color:#2a7}"


@dataclasses.dataclass
class Story:
    """What happened to one layout.

    Attributes:
      layout: The layout.
      pool: Its training sets, without their descriptors.
      scaling: How descriptors became points.
      clipped: How many z-scores of each entry were cut.
      clusters: Of the candidates; None where there are none.
      coverage: Of the candidates; None where there are none.
      outcome: What became of each set.
      target: Sets to keep.
    """

    layout: Layout
    pool: Pool
    scaling: Scaling
    clipped: dict[str, int]
    clusters: Clustering | None
    coverage: Coverage | None
    outcome: Outcome
    target: int


def write_report(file: pathlib.Path, summary: Mapping[str, Any], stories: Mapping[str, Story], sources: list[Source]) -> int:
    """Writes the page.

    Args:
      file: Where to.
      summary: The content of curation.json.
      stories: What happened to each layout.
      sources: The datasets.

    Returns:
      How many pictures it has.
    """
    datasets, away = _open(sources)
    parts = [f"<h1>Curation of {len(sources)} dataset{'s' * (len(sources) > 1)}</h1>"]
    parts.append(f"<p>{summary['kept']} image sets kept, {summary['target']} asked for. Only the split 'train' is curated.</p>")
    parts += [f"<p><b>{text(line)}</b></p>" for line in away]
    names = ["layout", "sets", "rejected", "candidates", "clusters", "asked for", "kept"]
    parts.append(table(names, [_counts(name, summary["layouts"][name]) for name in stories]))
    for name, story in stories.items():
        parts.append(f"<h2>Layout {text(name)}</h2>")
        rejected = summary["layouts"][name]["rejected"]
        parts.append(
            "<h3>Rejected</h3>" + (table(["because", "sets"], [[*item] for item in rejected.items()]) if rejected else "<p>None.</p>")
        )
        if story.clusters and story.coverage:
            parts += _coverage(story.coverage)
            parts += [f"<h3>Map</h3>{figure_image(_map(story), f'map of {name}')}"]
            parts += _gallery(story, story.clusters, datasets)
        if story.clipped:
            parts.append("<h3>z-scores that were cut</h3>" + table(["descriptor", "sets"], [[*item] for item in story.clipped.items()]))
    html = page("Curation", parts, STYLE + _STYLE)
    file.write_text(html)
    return html.count("<img ")


def _open(sources: list[Source]) -> tuple[list[Dataset | None], list[str]]:
    """The datasets that are where they were, and a line on each that is not."""
    found: list[Dataset | None] = []
    lines = []
    for source in sources:
        try:
            dataset = open_dataset(source.path, named="--data")
        except InputError:
            dataset = None
        found.append(dataset if dataset and dataset.digest == source.digest else None)
        if found[-1] is None:
            lines.append(f"Dataset {source.digest[:12]} is no longer at {source.path}: its image sets are not pictured.")
    return found, lines


def _counts(name: str, fields: Mapping[str, Any]) -> list[Any]:
    rejected = sum(fields["rejected"].values())
    clusters = fields["clusters"]["count"] if "clusters" in fields else 0
    return [name, fields["sets"], rejected, fields["sets"] - rejected, clusters, fields["target"], fields["kept"]]


def _coverage(coverage: Coverage) -> list[str]:
    figures, rows = coverage.figures, []
    for name, title in (("mean_distance", "mean distance"), ("p95_distance", "95th percentile"), ("largest_distance", "largest distance")):
        rows.append([title, f"{figures['kept'][name]:.4g}", f"{figures['random'][name]:.4g} ± {figures['random_sd'][name]:.2g}"])
    rows.append(["clusters covered", figures["kept"]["clusters_covered"]])
    rows[-1].append(f"{figures['random']['clusters_covered']:.4g} ± {figures['random_sd']['clusters_covered']:.2g}")
    about = (
        f"Distance of {figures['measured']} candidates to the nearest kept one, in the space of the descriptors, beside "
        f"{figures['random_draws']} random samples of as many sets (mean ± sample standard deviation). "
        f"Of {figures['clusters']} clusters the quotas cover all by design."
    )
    drawn = Figure(figsize=(6, 3))
    axes = drawn.subplots()
    for values, label in ((coverage.curated_M, "kept"), (coverage.random_M, "random sample")):
        axes.plot(np.sort(values), np.linspace(0, 1, len(values)), label=label)
    axes.set(xlabel="distance to the nearest kept set", ylabel="share of candidates")
    axes.legend()
    return [
        "<h3>Coverage</h3>",
        f"<p class=quiet>{about}</p>",
        table(["", "kept", "random"], rows),
        figure_image(drawn, "distances, sorted"),
    ]


def _map(story: Story) -> Figure:
    drawn = Figure(figsize=(7, 5))
    axes = drawn.subplots()
    rejected = story.outcome.cluster < 0
    kinds = ((~story.outcome.kept & ~rejected, "left out", "#bbb"), (rejected, "rejected", "#d55"), (story.outcome.kept, "kept", "#2a7"))
    for chosen, label, colour in kinds:
        rows = np.flatnonzero(chosen)
        shown = rows[:: max(1, -(-len(rows) // _MAP_POINTS))]
        some = "" if len(shown) == len(rows) else f", every {-(-len(rows) // _MAP_POINTS)}th shown"
        axes.scatter(*story.pool.lonlat_deg[shown].T, s=4, c=colour, label=f"{label} ({len(rows)}{some})")
    axes.set(xlabel="longitude, degrees", ylabel="latitude, degrees")
    axes.ticklabel_format(useOffset=False)
    axes.legend(fontsize=8)
    return drawn


def _gallery(story: Story, clusters: Clustering, datasets: list[Dataset | None]) -> list[str]:
    sizes = np.bincount(clusters.cluster, minlength=len(clusters.exemplars))
    by_size = np.argsort(-sizes, kind="stable")
    shown = by_size[np.unique(np.linspace(0, len(by_size) - 1, min(CLUSTERS, len(by_size))).round().astype(int))]
    parts = [
        f"<h3>Clusters</h3><p class=quiet>{len(shown)} of {len(by_size)}, from the largest to the smallest, exemplars first. "
        "A green frame marks what is kept. Pictures show the first member, from two of the dataset's standard deviations below the mean to "
        "two above; pixels that are not valid are plum.</p>"
    ]
    records = [dataset and dataset.sets.get(story.layout.name) and dataset.source(story.layout, "train") for dataset in datasets]
    for k in shown:
        exemplar = int(np.flatnonzero(story.outcome.exemplar & (story.outcome.cluster == k))[0])
        others = np.flatnonzero(~story.outcome.exemplar & (story.outcome.cluster == k))
        others = others[np.unique(np.linspace(0, max(len(others) - 1, 0), min(MEMBERS - 1, len(others))).round().astype(int))]
        kept = Counter(story.outcome.kept[story.outcome.cluster == k].tolist())[True]
        pictures = [_picture(story, int(row), datasets, records) for row in [exemplar, *others]]
        parts.append(f"<h4>Cluster {k}: {sizes[k]} sets, {kept} kept</h4>" + "".join(pictures))
    return parts


def _picture(story: Story, row: int, datasets: list[Dataset | None], records: list[Any]) -> str:
    dataset = datasets[story.pool.source[row]]
    if dataset is None:
        return ""
    record = records[story.pool.source[row]][int(story.pool.record[row])]
    key = record["key"].decode()
    frame = "pixels kept" if story.outcome.kept[row] else "pixels"
    stream = io.BytesIO()
    thumbnail(dataset, story.layout, record).save(stream, format="png")
    image = png_image(stream.getvalue(), key, f' class="{frame}" title="{text(key)}"')
    note = "exemplar" if story.outcome.exemplar[row] else f"record {story.pool.record[row]}"
    return f"<figure>{image}<figcaption>{note}</figcaption></figure>"


def thumbnail(dataset: Dataset, layout: Layout, record: Mapping[str, Any]) -> Image.Image:
    """A picture of the first member of an image set, a pixel for each of its pixels.

    Args:
      dataset: Whose mean and standard deviation say what is black and white.
      layout: The set's layout.
      record: The set.

    Returns:
      An RGB picture of the bands that `rsfm_jax.display.shown_channels` names.
    """
    slot = layout.slots[0]
    channels = shown_channels(slot.sensor, slot.bands)
    mean_C, std_C = (values[channels] for values in dataset.mean_std(slot))
    member = decode_member(record, 0, {})
    rgb = stretched(member.physical_HWC[..., channels], np.stack([mean_C - _STD * std_C, mean_C + _STD * std_C]))
    seen = member.valid_HWC[..., channels].all(axis=-1, keepdims=True)
    return Image.fromarray((np.where(seen, rgb, INVALID) * 255).astype(np.uint8))
