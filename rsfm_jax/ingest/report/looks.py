"""The sections of the page about a dataset that show drawn records: pictures, days between members, values."""

import datetime
from typing import Any

import numpy as np

from rsfm_jax.data.dataset import Dataset
from rsfm_jax.display import PERCENTILES, shown_channels
from rsfm_jax.geo import Rect
from rsfm_jax.ingest.report.charts import gaps_chart, histogram, member_gaps, pair_name
from rsfm_jax.ingest.report.sampling import BINS, REACH_STD, BandValues, Drawn, read_record, spread
from rsfm_jax.ingest.report.tiles import common_ground, set_tiles
from rsfm_jax.layouts import Layout
from rsfm_jax.pages import captioned, figure_image, png_image, text, wide_table
from rsfm_jax.sensors import get_sensor

_KEYS = (  # colours of `rsfm_jax.display.INVALID` and of `rsfm_jax.ingest.report.tiles.UNSEEN`
    ("invalid", "repeating-linear-gradient(135deg,#731a59 0 3px,#fff 3px 6px)"),
    ("ground that the member does not reach", "#ededed"),
)


def image_sets(dataset: Dataset, drawn: Drawn, values: dict[tuple[str, str], BandValues], most: int, seed: int) -> str:
    """Pictures of some sets of a layout, and the days between their members."""
    layout, sets = drawn.layout, dataset.sets[drawn.layout.name]
    chosen = spread(drawn.centres_deg, most)
    keys = ", ".join(f"<span class=key style='background:{colour}'></span> {name}" for name, colour in _KEYS)
    parts = [f"<h2{' id=sets' if layout == dataset.layouts[0] else ''}>Image sets: {text(layout.name)}</h2>"]
    parts.append(
        f"<p class=quiet>{len(chosen)} of {sum(sets.values())} sets, drawn by seed and spread over the ground. All pictures of a set show "
        f"the same ground; marks stand at its quarters. {_stretches(layout, values)} {keys}.</p>"
    )
    sources = {split: dataset.source(layout, split) for split in sets}
    for row in chosen:
        split, number = drawn.places[row]
        parts.append(_one_set(layout, read_record(dataset, layout, sources[split], split, number), split, values))
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
            parts.append(captioned(figure_image(histogram(v), f"histogram of {band}"), _band_title(v), note, "chart"))
        head = ["band", "unit", "plausible", "mean", "std", "least", "most", "valid", "outside", "mean, train", "std, train"]
        parts.append("</div>" + wide_table(head, [_value_row(band, v, statistics[sensor][band]) for band, v in own.items()]))
    quiet = (
        "valid: share of all pixels. outside: share of the valid ones outside the plausible range. train: all of it, as in dataset.json."
    )
    return "".join(parts) + f"<p class=quiet>{quiet}</p>"


def _one_set(layout: Layout, record: dict[str, Any], split: str, values: dict[tuple[str, str], BandValues]) -> str:
    ground = common_ground(layout, record)
    lon, lat = record["lonlat_deg"].mean(axis=0)
    titles = [f"{get_sensor(slot.sensor).title}, {_date(record[f'time_{i}'])}, {slot.gsd_m:g} m" for i, slot in enumerate(layout.slots)]
    parts = [f"<h4>{text(record['key'].decode())}</h4><p class=quiet>{text(split)}; {_size(ground)}; {lon:.4f}° east, {lat:.4f}° north</p>"]
    figures = [captioned(png_image(tile.png(), tile.title), tile.title, tile.notes) for tile in set_tiles(layout, record, titles, values)]
    return "".join([*parts, "<div class=row>", *figures, "</div>"])


def _stretches(layout: Layout, values: dict[tuple[str, str], BandValues]) -> str:
    """How the shown bands of a layout are stretched, from which value to which."""
    shown = dict.fromkeys((slot.sensor, slot.bands[c]) for slot in layout.slots for c in shown_channels(slot.sensor, slot.bands))
    common = [of for of in shown if values[of].band.kind != "elevation"]
    low, high = PERCENTILES
    said = []
    if common:
        ends = ["{} {} {:.3g} to {:.3g}".format(*of, *values[of].percentiles(PERCENTILES)) for of in common]
        said.append(
            "Three bands are red, green and blue, one is grey, each stretched linearly between two values, percentiles "
            f"{low} and {high} of what was drawn for this page: {', '.join(ends)}."
        )
    if len(common) < len(shown):
        said.append(f"Elevation is stretched from percentile {low} to {high} of each picture.")
    return text(" ".join(said))


def _gaps(drawn: Drawn, sets: int, seed: int) -> str:
    gaps = member_gaps(drawn.layout, drawn.times)
    if not gaps:
        return ""
    rows = [[pair_name(drawn.layout, *pair), len(days), *_ends(days)] for pair, days in gaps.items()]
    said = f"In {len(drawn.places)} of {sets} sets, drawn by seed; sets where one of the two dates is unknown are not counted."
    chart = figure_image(gaps_chart(drawn.layout, gaps, seed), "days between members") if any(map(len, gaps.values())) else ""
    head = ["from, to", "sets", "least days", "median", "most"]
    return f"<h3>Days between members</h3><p class=quiet>{said}</p>{chart}{wide_table(head, rows)}"


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


def _date(time: np.ndarray) -> str:
    known, year, day = time
    return str(datetime.date(int(year), 1, 1) + datetime.timedelta(days=int(day))) if known else "date unknown"


def _size(ground: Rect) -> str:
    unit, factor = ("km", 1e-3) if min(ground.width_m, ground.height_m) >= 1000 else ("m", 1.0)
    return f"{ground.width_m * factor:.4g} x {ground.height_m * factor:.4g} {unit}"
