"""The sections of the page about a dataset, as HTML."""

from collections import Counter
import datetime
import json
from typing import Any

import numpy as np

from rsfm_jax.data.dataset import Dataset
from rsfm_jax.display import PERCENTILES
from rsfm_jax.geo import Rect
from rsfm_jax.ingest.report.census import Census
from rsfm_jax.ingest.report.charts import gaps_chart, histogram, member_gaps, pair_name, timeline
from rsfm_jax.ingest.report.maps import MOST_PLACES, draw_map, drawn_footprints, places
from rsfm_jax.ingest.report.sampling import BINS, REACH_STD, BandValues, Drawn, read_record, spread
from rsfm_jax.ingest.report.tiles import common_ground, set_tiles
from rsfm_jax.layouts import Layout
from rsfm_jax.pages import STYLE as PLAIN
from rsfm_jax.pages import figure_image, png_image, table, text
from rsfm_jax.sensors import get_sensor

STYLE = (
    PLAIN
    + """
h1{margin-bottom:.2rem}h2{border-top:1px solid #ddd;padding-top:1.2rem}h4{margin:1.4rem 0 .3rem;font-weight:600;overflow-wrap:anywhere}
nav a{margin-right:1rem}.wide{overflow-x:auto}.wide table{white-space:nowrap}
.row{display:flex;flex-wrap:wrap;gap:.8rem}figure{margin:0;flex:0 1 16rem;min-width:9.5rem}figure.chart{flex-basis:21rem}
figure img{width:100%;image-rendering:pixelated;display:block}figure.chart img{image-rendering:auto}
figcaption{font-size:12px;color:#555;overflow-wrap:anywhere}figcaption b{color:#222;display:block}
.key{display:inline-block;width:.9em;height:.9em;vertical-align:-.1em;border:1px solid #999}
dl{display:grid;grid-template-columns:max-content 1fr;gap:.15rem 1rem}dt{color:#666}dd{margin:0;overflow-wrap:anywhere}
pre{overflow-x:auto;background:#f6f6f6;padding:.6rem}
@media(max-width:40rem){dl{grid-template-columns:1fr}dd{margin-bottom:.4rem}figure{flex-basis:9.5rem;flex-grow:1}figure.chart{flex-basis:100%}}"""
)
_KEYS = (("invalid", "#731a59"), ("ground that the member does not reach", "#ededed"))  # of `rsfm_jax.display.INVALID` and of `UNSEEN`


def about(name: str, summary: dict[str, Any], census: Census, written: datetime.datetime) -> str:
    """Title, what the dataset is in a few lines, and links to the sections."""
    days = [day for counts in census.days.values() for day in counts]
    when = f"{min(days)} to {max(days)}" if days else "no date is known"
    undated = census.undated.total()
    sets = sum(counts.total() for counts in census.sets.values())
    rows = {
        "image sets": f"{sets}, in {len(summary['layouts'])} layouts",
        "scenes": f"{census.scenes.total()}, of {len(census.scenes)} sensors: {', '.join(sorted(census.scenes))}",
        "acquired": when + (f"; {undated} scenes without a date" if undated else ""),
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
    parts = ["<h2 id=contents>Contents</h2>", _wide(["layout", "members", "train", "val", "rejected"], rows)]
    rejected = [[name, reason, count] for name in names for reason, count in census.rejected[name].most_common()]
    parts.append("<h3>Rejected sets</h3>")
    parts.append(_wide(["layout", "reason", "sets"], rejected) if rejected else "<p>None.</p>")
    parts.append("<h3>Scenes</h3>")
    left_out: Counter[str] = Counter()
    for (sensor, _), count in census.unused.items():
        left_out[sensor] += count
    parts.append(_wide(["sensor", "scenes", "in no set"], [[sensor, n, left_out[sensor]] for sensor, n in sorted(census.scenes.items())]))
    if census.unused:
        rows = [[sensor, why, count, _named(census, (sensor, why))] for (sensor, why), count in census.unused.most_common()]
        parts.append("<h3>Scenes that no set uses</h3>" + _wide(["sensor", "reason", "scenes", "which"], rows))
    if summary["unused_bands"]:
        rows = [[sensor, ", ".join(bands)] for sensor, bands in summary["unused_bands"].items()]
        parts.append("<h3>Bands that no layout reads</h3>" + _wide(["sensor", "bands"], rows))
    return "".join(parts)


def map_section(census: Census) -> str:
    """Where the sets are."""
    footprints = drawn_footprints(census)
    seen = Counter({group: reservoir.seen for group, reservoir in census.footprints.items()})
    caps = [f"{len(r.items)} of {r.seen} of {group}" for group, r in census.footprints.items() if len(r.items) < r.seen]
    said = f"Drawn by seed: {', '.join(caps)}." if caps else "All footprints are drawn."
    if census.unplaced:
        said += f" {census.unplaced} rejected sets have no footprint in the manifest and are not on the map."
    parts = ["<h2 id=map>Map</h2>", f"<p class=quiet>Footprints of the sets, by split. {said}</p>"]
    parts.append(f"<div class=map>{figure_image(draw_map(footprints, seen, 7.0), 'map of all footprints')}</div>")
    apart = places(footprints)
    if len(apart) > 1:
        more = f"; the {MOST_PLACES} with the most footprints" if len(apart) > MOST_PLACES else ""
        parts.append(
            f"<h3>Places</h3><p class=quiet>The footprints lie in {len(apart)} places far from each other{more}:</p><div class=row>"
        )
        for i, place in enumerate(apart[:MOST_PLACES], 1):
            counts = ", ".join(f"{len(corners)} {group}" for group, corners in place.by_group.items())
            parts.append(_figure(figure_image(draw_map(place, Counter(), 4.0), f"map of place {i}"), f"Place {i}", counts, chart=True))
        parts.append("</div>")
    return "".join(parts)


def image_sets(dataset: Dataset, drawn: Drawn, most: int, seed: int) -> str:
    """Pictures of some sets of a layout, and the days between their members."""
    layout, sets = drawn.layout, dataset.sets[drawn.layout.name]
    chosen = spread(drawn.centres_deg, most)
    keys = ", ".join(f"<span class=key style='background:{colour}'></span> {name}" for name, colour in _KEYS)
    parts = [f"<h2{' id=sets' if layout == dataset.layouts[0] else ''}>Image sets: {text(layout.name)}</h2>"]
    parts.append(
        f"<p class=quiet>{len(chosen)} of {sum(sets.values())} sets, drawn by seed and spread over the ground. All pictures of a set show "
        f"the same ground, marks stand at its quarters. Each shown band is stretched from percentile {PERCENTILES[0]} to {PERCENTILES[1]} "
        f"of its valid pixels in that picture, in its unit: compare shapes, not brightness. {keys}.</p>"
    )
    for row in chosen:
        split, number = drawn.places[row]
        parts.append(_one_set(layout, read_record(dataset, layout, split, number), split))
    return "".join(parts) + _gaps(drawn, sum(sets.values()), seed)


def value_section(statistics: dict[str, Any], values: dict[tuple[str, str], BandValues], drawn: list[Drawn], sets: dict[str, Any]) -> str:
    """Histograms and figures of every band."""
    counts = ", ".join(f"{len(d.places)} of {sum(sets[d.layout.name].values())} records of {text(d.layout.name)}" for d in drawn)
    parts = ["<h2 id=values>Values</h2>"]
    parts.append(
        f"<p class=quiet>Valid pixels of {counts}, drawn by seed from all splits. Histograms have at most {BINS + 1} bins and reach "
        f"{REACH_STD:g} standard deviations from the mean of the split train, or to its extremes. Black line: mean, grey: one standard "
        "deviation, dashed orange: end of the plausible range where it is in view.</p>"
    )
    for sensor in dict.fromkeys(sensor for sensor, _ in values):
        own = {band: v for (of, band), v in values.items() if of == sensor}
        parts.append(f"<h3>{text(get_sensor(sensor).title)} <span class=quiet>({text(sensor)})</span></h3><div class=row>")
        for band, v in own.items():
            note = f"{v.statistics.count} valid pixels; {_share(v.undrawn_share)} lie beyond the histogram"
            parts.append(_figure(figure_image(histogram(v), f"histogram of {band}"), _band_title(v), note, chart=True))
        head = ["band", "unit", "plausible", "mean", "std", "least", "most", "valid", "outside", "mean, train", "std, train"]
        parts.append("</div>" + _wide(head, [_value_row(band, v, statistics[sensor][band]) for band, v in own.items()]))
    quiet = (
        "valid: share of all pixels. outside: share of the valid ones outside the plausible range. train: all of it, as in dataset.json."
    )
    return "".join(parts) + f"<p class=quiet>{quiet}</p>"


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
        parts.append(f"<h3>Layout {text(layout['name'])}</h3>" + _wide(head, rows))
        parts.append(f"<p class=quiet>stride {stride}; {layout['sets_per_place']} sets at a place at most</p>")
    return "".join(parts)


def _one_set(layout: Layout, record: dict[str, Any], split: str) -> str:
    ground = common_ground(layout, record)
    lon, lat = record["lonlat_deg"].mean(axis=0)
    titles = [f"{get_sensor(slot.sensor).title}, {_date(record[f'time_{i}'])}, {slot.gsd_m:g} m" for i, slot in enumerate(layout.slots)]
    parts = [f"<h4>{text(_plain(record['key']))}</h4><p class=quiet>{text(split)}; {_size(ground)}; {lon:.4f}° east, {lat:.4f}° north</p>"]
    figures = [_figure(png_image(tile.png(), tile.title), tile.title, tile.notes) for tile in set_tiles(layout, record, titles)]
    return "".join([*parts, "<div class=row>", *figures, "</div>"])


def _gaps(drawn: Drawn, sets: int, seed: int) -> str:
    gaps = member_gaps(drawn.layout, drawn.times)
    if not gaps:
        return ""
    rows = [[pair_name(drawn.layout, *pair), len(days), *_ends(days)] for pair, days in gaps.items()]
    said = f"In {len(drawn.places)} of {sets} sets, drawn by seed; sets where one of the two dates is unknown are not counted."
    chart = figure_image(gaps_chart(drawn.layout, gaps, seed), "days between members") if any(map(len, gaps.values())) else ""
    head = ["from, to", "sets", "least days", "median", "most"]
    return f"<h3>Days between members</h3><p class=quiet>{said}</p>{chart}{_wide(head, rows)}"


def _ends(days: np.ndarray) -> list[Any]:
    return [f"{x:.1f}" for x in (days.min(), np.median(days), days.max())] if len(days) else [None] * 3


def _value_row(band: str, values: BandValues, known: dict[str, Any]) -> list[Any]:
    low, high = values.band.valid_range
    s = values.statistics
    drawn = [f"{x:.4g}" for x in (s.mean, s.std, s.low, s.high)] if s.count else [None] * 4
    shares = [_share(values.valid_share), _share(values.outside_share)]
    return [band, values.band.unit, f"{low:g} to {high:g}", *drawn, *shares, f"{known['mean']:.4g}", f"{known['std']:.4g}"]


def _band_title(values: BandValues) -> str:
    band = values.band
    return f"{band.name}, {band.wavelength_nm:g} nm" if band.wavelength_nm else band.name


def _share(share: float) -> str:
    return "–" if np.isnan(share) else f"{share:.2%}"


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


def _date(time: np.ndarray) -> str:
    known, year, day = time
    return str(datetime.date(int(year), 1, 1) + datetime.timedelta(days=int(day))) if known else "date unknown"


def _size(ground: Rect) -> str:
    unit, factor = ("km", 1e-3) if min(ground.width_m, ground.height_m) >= 1000 else ("m", 1.0)
    return f"{ground.width_m * factor:.4g} x {ground.height_m * factor:.4g} {unit}"


def _plain(key: Any) -> str:
    return key.decode() if isinstance(key, bytes) else str(key)


def _figure(image: str, title: str, notes: str, chart: bool = False) -> str:
    return f"<figure{' class=chart' if chart else ''}>{image}<figcaption><b>{text(title)}</b>{text(notes)}</figcaption></figure>"


def _wide(names: list[Any], rows: list[list[Any]]) -> str:
    return f"<div class=wide>{table(names, rows)}</div>"
