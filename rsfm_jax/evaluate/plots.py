"""Pictures of a report: figures as bars, few labels as curves, chips with truth and prediction.

Legend: C bands, H W pixels.
"""

from typing import Any

from matplotlib import colormaps
from matplotlib.figure import Figure
from matplotlib.patches import Patch
import numpy as np

from rsfm_jax.display import shown_channels, stretch_limits, stretched
from rsfm_jax.evaluate.runner import Examples
from rsfm_jax.evaluate.samples.restored import RestoredSamples
from rsfm_jax.evaluate.samples.samples import NO_LABEL, Chips, Input, Samples
from rsfm_jax.evaluate.tasks.task import Task


def make_figures(task: Task, means: list[dict[str, Any]], samples: Samples, examples: Examples) -> dict[str, Figure]:
    """The pictures of a report.

    Args:
      task: The task.
      means: Rows of `rsfm_jax.evaluate.runner.summarise`.
      samples: All samples.
      examples: Those to show.

    Returns:
      Pictures by caption.
    """
    figure = task.figures[0]
    made = {f"{figure} by features and probe": _bars(means, figure)}
    if len({row["per_class"] for row in means}) > 1:
        first = {"layer": task.encoding.layers[0], "pooling": task.encoding.pooling[0], "probe": task.probes[0]}
        few = [row for row in means if row["features"] == "none" or all(row[key] in (None, entry) for key, entry in first.items())]
        made[f"{figure} by labels a class, {first['probe']} probe, first layer and pooling of the task"] = _curves(few, figure)
    if isinstance(samples, RestoredSamples):
        shown = _restored(samples, examples)
    else:
        shown = _maps(samples, examples) if samples.targets.ndim == 3 else _chips(samples, examples)
    return made | {f"Test chips, {examples.title}": shown}


def _name(row: dict[str, Any]) -> str:
    parts = [row["features"], None if row["layer"] is None else f"layer {row['layer']} {row['pooling']}", row["probe"], row["mode"]]
    parts.append(f"{row['train_group']} to {row['test_group']}" if "train_group" in row else None)
    return ", ".join(str(part) for part in parts if part is not None)


def _bars(means: list[dict[str, Any]], figure: str) -> Figure:
    rows = [row for row in means if row["per_class"] == means[0]["per_class"] and row[figure] is not None][::-1]
    made = Figure(figsize=(9, 0.8 + 0.28 * len(rows)))
    axes = made.subplots()
    colours = ["tab:blue" if row["layer"] is not None or row["mode"] else "tab:grey" for row in rows]
    axes.barh(range(len(rows)), [row[figure] for row in rows], xerr=[row[f"{figure}_sd"] or 0.0 for row in rows], color=colours)
    axes.set_yticks(range(len(rows)), [_name(row) for row in rows], fontsize=8)
    axes.set_xlabel(figure)
    return made


def _curves(means: list[dict[str, Any]], figure: str) -> Figure:
    made = Figure(figsize=(9, 5))
    axes = made.subplots()
    counts = sorted({row["per_class"] for row in means if row["per_class"] is not None})
    ticks = [*counts, None]
    for name in dict.fromkeys(_name(row) for row in means):
        same = {row["per_class"]: row[figure] for row in means if _name(row) == name}
        points = [(i, same[count]) for i, count in enumerate(ticks) if same.get(count) is not None]
        axes.plot(*zip(*points, strict=True), marker="o", label=name)
    axes.set_xticks(range(len(ticks)), [*map(str, counts), "all"])
    axes.set_xlabel("labels a class")
    axes.set_ylabel(figure)
    axes.legend(fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5))
    return made


def _chips(samples: Samples, examples: Examples) -> Figure:
    count = len(examples.rows)
    columns = min(6, count)
    made = Figure(figsize=(2 * columns, 2.5 * -(-count // columns)))
    grid = made.subplots(-(-count // columns), columns, squeeze=False).reshape(-1)
    for axes in grid:
        axes.axis("off")
    for axes, row, predicted in zip(grid, examples.rows, examples.predicted, strict=False):
        axes.imshow(_picture(samples.chips, int(row)))
        axes.set_title(f"{_label(samples, samples.targets[row])}\npredicted {_label(samples, predicted)}", fontsize=7)
    return made


def _maps(samples: Samples, examples: Examples) -> Figure:
    made = Figure(figsize=(6, 2 * len(examples.rows)), layout="constrained")
    grid = made.subplots(len(examples.rows), 3, squeeze=False)
    colours = np.concatenate([colormaps["tab20"](np.arange(len(samples.names)) % 20)[:, :3], np.ones((1, 3))])  # the last is `NO_LABEL`
    assert NO_LABEL == -1
    for line, row, predicted in zip(grid, examples.rows, examples.predicted, strict=True):
        images = {"image": _picture(samples.chips, int(row)), "truth": colours[samples.targets[row]], "predicted": colours[predicted]}
        for axes, (title, image) in zip(line, images.items(), strict=True):
            axes.imshow(image)
            axes.set_title(title, fontsize=8)
            axes.axis("off")
    names = [Patch(color=colour, label=name) for name, colour in zip(samples.names, colours, strict=False)]
    made.legend(handles=[*names, Patch(facecolor="white", edgecolor="grey", label="no label")], loc="outside lower center", ncols=4)
    return made


def _restored(samples: RestoredSamples, examples: Examples) -> Figure:
    """First input, prediction and truth of each chip, under the truth's stretch."""
    made = Figure(figsize=(6, 2 * len(examples.rows)), layout="constrained")
    grid = made.subplots(len(examples.rows), 3, squeeze=False)
    for line, row, predicted in zip(grid, examples.rows.tolist(), examples.predicted, strict=True):
        first, chips = samples.members[0], samples.chips
        kind, limits = chips.inputs[0], _limits(chips.inputs[0], chips.values[row], chips.valid[row])
        images = {
            "first input": (first.values[row], first.valid[row]),
            "restored": (predicted, np.ones_like(predicted, bool)),
            "truth": (chips.values[row], chips.valid[row]),
        }
        for axes, (title, (values, valid)) in zip(line, images.items(), strict=True):
            axes.imshow(_stretched(kind, values, valid, limits))
            axes.set_title(f"{title} ({', '.join(kind.bands[i] for i in _shown(kind))})", fontsize=8)
            axes.axis("off")
    return made


def _label(samples: Samples, target: Any) -> str:
    if samples.targets.dtype == bool:
        return ", ".join(name for name, there in zip(samples.names, target, strict=True) if there) or "nothing"
    return samples.names[int(target)] if samples.names else f"{float(target):.4g}"


def _picture(chips: Chips, row: int) -> np.ndarray:
    """A chip as RGB (H, W, 3), stretched by its own values; white where unseen."""
    kind, values, valid = chips.inputs[chips.input_of[row]], chips.values[row], chips.valid[row]
    return _stretched(kind, values, valid, _limits(kind, values, valid))


def _shown(kind: Input) -> list[int]:
    return shown_channels(kind.sensor, kind.bands)


def _limits(kind: Input, values: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """Where the stretch of an image's (C, H, W) shown bands begins and ends, (2, channels)."""
    chosen = _shown(kind)
    return stretch_limits(np.moveaxis(values[chosen], 0, -1), np.all(valid[chosen], axis=0))


def _stretched(kind: Input, values: np.ndarray, valid: np.ndarray, limits: np.ndarray) -> np.ndarray:
    """An image (C, H, W) as RGB (H, W, 3) between limits; white where unseen."""
    chosen = _shown(kind)
    return np.where(np.all(valid[chosen], axis=0)[..., None], stretched(np.moveaxis(values[chosen], 0, -1), limits), 1.0)
