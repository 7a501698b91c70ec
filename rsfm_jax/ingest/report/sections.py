"""The sections of the page about a dataset that its manifest and its dataset.json tell, as HTML."""

from collections import Counter
import datetime
import json
from typing import Any

from rsfm_jax.ingest.report.census import Census
from rsfm_jax.ingest.report.charts import timeline
from rsfm_jax.ingest.report.maps import MOST_PLACES, TOO_MANY_PLACES, draw_map, drawn_footprints, places
from rsfm_jax.pages import captioned, figure_image, text, wide_table


def about(name: str, summary: dict[str, Any], census: Census, written: datetime.datetime) -> str:
    """Title, what the dataset is in a few lines, and links to the sections."""
    days = [day for counts in census.days.values() for day in counts]
    when = f"{min(days)} to {max(days)}" if days else "no date is known"
    undated = census.undated.total()
    sets = sum(counts.total() for counts in census.sets.values())
    rows = {
        "image sets": sets,
        "layouts": ", ".join(layout["name"] for layout in summary["layouts"]),
        "scenes": census.scenes.total(),
        "sensors": ", ".join(sorted(census.scenes)),
        "acquired": when + (f"; scenes without a date: {undated}" if undated else ""),
        "written": f"by {summary['written_by']}; dataset.json is of {written:%Y-%m-%d %H:%M} UTC",
        "schema version": summary["schema_version"],
        "digest": summary["digest"],
    }
    listed = "".join(f"<dt>{text(term)}</dt><dd>{text(value)}</dd>" for term, value in rows.items())
    links = {"contents": "Contents", "map": "Map", "sets": "Image sets", "values": "Values", "time": "Dates", "made": "How it was made"}
    nav = "".join(f"<a href='#{anchor}'>{title}</a>" for anchor, title in links.items())
    return f"<h1>{text(name)}</h1><p class=quiet>A dataset of image sets of rsfm_jax</p><dl>{listed}</dl><nav>{nav}</nav>"


def contents(summary: dict[str, Any], census: Census) -> str:
    """Counts by layout and split, and everything that was left out, with its reason."""
    names = list(summary["sets"])
    rows = [
        [name, _shape(summary, name), census.sets[name]["train"], census.sets[name]["val"], census.rejected[name].total()] for name in names
    ]
    parts = ["<h2 id=contents>Contents</h2>", wide_table(["layout", "members", "train", "val", "rejected"], rows)]
    rejected = [[name, reason, count] for name in names for reason, count in census.rejected[name].most_common()]
    parts.append("<h3>Rejected sets</h3>")
    parts.append(wide_table(["layout", "reason", "sets"], rejected) if rejected else "<p>None.</p>")
    parts.append("<h3>Scenes</h3>")
    left_out: Counter[str] = Counter()
    for (sensor, _), count in census.unused.items():
        left_out[sensor] += count
    parts.append(
        wide_table(["sensor", "scenes", "in no set"], [[sensor, n, left_out[sensor]] for sensor, n in sorted(census.scenes.items())])
    )
    if census.unused:
        rows = [[sensor, why, count, _named(census, (sensor, why))] for (sensor, why), count in census.unused.most_common()]
        parts.append("<h3>Scenes that no set uses</h3>" + wide_table(["sensor", "reason", "scenes", "which"], rows))
    if census.left:
        rows = [[kind, count, "; ".join(census.left_lines[kind])] for kind, count in census.left.most_common()]
        parts.append("<h3>Files and products that no scene came from</h3>" + wide_table(["what", "number", "the first of them"], rows))
    if summary["unused_bands"]:
        rows = [[sensor, ", ".join(bands)] for sensor, bands in summary["unused_bands"].items()]
        parts.append("<h3>Bands that no layout reads</h3>" + wide_table(["sensor", "bands"], rows))
    return "".join(parts)


def map_section(census: Census) -> str:
    """Where the sets are."""
    footprints = drawn_footprints(census)
    seen = Counter({group: reservoir.seen for group, reservoir in census.footprints.items()})
    caps = [f"{len(r.items)} of {r.seen} of {group}" for group, r in census.footprints.items() if len(r.items) < r.seen]
    said = f"Drawn by seed: {', '.join(caps)}." if caps else "All footprints are drawn."
    if census.unplaced:
        said += f" {census.unplaced} rejected sets have no footprint in the manifest and are not on the map."
    parts = ["<h2 id=map>Map</h2>", f"<p class=quiet>Centres of the sets, and the ground that they cover together, by split. {said}</p>"]
    apart = places(footprints)
    shown = apart[:MOST_PLACES] if 1 < len(apart) <= TOO_MANY_PLACES else []
    parts.append(figure_image(draw_map(footprints, 6.5, seen, shown), "map of all footprints"))
    if len(apart) > TOO_MANY_PLACES:
        parts.append(f"<p class=quiet>The footprints lie in {len(apart)} places, too many to draw each for itself.</p>")
    if shown:
        more = f"; the {MOST_PLACES} with the most footprints" if len(apart) > MOST_PLACES else ""
        parts.append(
            f"<h3>Places</h3><p class=quiet>The footprints lie in {len(apart)} places far from each other{more}:</p><div class=row>"
        )
        for i, place in enumerate(shown, 1):
            counts = ", ".join(f"{len(corners)} {group}" for group, corners in place.by_group.items())
            parts.append(captioned(figure_image(draw_map(place, 4.0), f"map of place {i}"), f"Place {i}", counts, "chart"))
        parts.append("</div>")
    return "".join(parts)


def time_section(census: Census) -> str:
    """When the scenes were acquired."""
    parts = ["<h2 id=time>Dates</h2>"]
    if census.days:
        parts.append(figure_image(timeline(census.days), "scenes of each sensor in time"))
    if census.undated:
        undated = ", ".join(f"{sensor} {count}" for sensor, count in sorted(census.undated.items()))
        parts.append(f"<p>Scenes without a date: {text(undated)}.</p>")
    return "".join(parts)


def how_made(summary: dict[str, Any]) -> str:
    """The config of ingest, and the layouts slot by slot."""
    parts = ["<h2 id=made>How it was made</h2>", f"<pre>{text(json.dumps(summary['ingest'], indent=1))}</pre>"]
    head = ["", "sensor", "bands", "GSD m", "pixels", "patch", "type", "resample", "acquisition"]
    for layout in summary["layouts"]:
        rows = [
            [i, s["sensor"], " ".join(s["bands"]), s["gsd_m"], s["pixels"], s["patch"], dtype, s["resample"], s["acquisition"]]
            for i, (s, dtype) in enumerate(zip(layout["slots"], layout["dtypes"], strict=True), 1)
        ]
        stride = f"{layout['stride_m']:g} m" if layout["stride_m"] else "half of the first member's side"
        parts.append(f"<h3>Layout {text(layout['name'])}</h3>" + wide_table(head, rows))
        parts.append(f"<p class=quiet>stride {stride}; {layout['sets_per_place']} sets at a place at most</p>")
    return "".join(parts)


def _shape(summary: dict[str, Any], name: str) -> str:
    layout = next((layout for layout in summary["layouts"] if layout["name"] == name), None)
    if layout is None:
        return "no set: none of the split train was kept, or its members share no ground large enough"
    members = [f"{s['sensor']} {len(s['bands'])} bands {s['gsd_m']:g} m {s['pixels']} px" for s in layout["slots"]]
    return "; ".join(members)


def _named(census: Census, why: tuple[str, str]) -> str:
    ids = census.unused_ids[why]
    more = census.unused[why] - len(ids)
    return ", ".join(ids) + (f" and {more} more" if more else "")
