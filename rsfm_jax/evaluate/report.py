"""Results on disk: results.json with everything, rows.csv, and report.html, one page that needs no other file.

Each file is written beside its place first and then moved there.
"""

import csv
import io
import json
import pathlib
from typing import Any

from matplotlib.figure import Figure

from rsfm_jax.errors import InputError
from rsfm_jax.evaluate.runner import KEYS
from rsfm_jax.evaluate.tasks.task import LESS_IS_BETTER
from rsfm_jax.pages import figure_image, page, table, text, write_whole

RESULTS, ROWS, PAGE = "results.json", "rows.csv", "report.html"
CACHE = "features"  # folder of features that were computed already


def check_out(out: pathlib.Path) -> None:
    """Raises InputError if a folder holds something that is not the results of a run before."""
    if out.exists() and (not out.is_dir() or (any(out.iterdir()) and not any((out / name).exists() for name in (RESULTS, CACHE)))):
        raise InputError(f"--out={out}: already holds something that is no result of this command; choose another folder")


def write_report(out: pathlib.Path, results: dict[str, Any], figures: dict[str, Figure]) -> None:
    """Writes the three files, replacing those of a run before.

    Args:
      out: Folder; made where it is not there.
      results: `rows`, `means`, `transfer`, `retrieval`, `features` and what `rsfm_jax.evaluate.runner.describe` returns.
      figures: Pictures of the page, by caption.
    """
    out.mkdir(parents=True, exist_ok=True)
    write_whole(out / RESULTS, json.dumps(results, indent=1, allow_nan=False) + "\n")
    write_whole(out / ROWS, _csv(results["rows"]))
    write_whole(out / PAGE, _page(results, figures))


def _csv(rows: list[dict[str, Any]]) -> str:
    """Rows with what is no list or mapping."""
    plain = [{key: value for key, value in row.items() if not isinstance(value, list | dict)} for row in rows]
    names = list(dict.fromkeys(key for row in plain for key in row))
    stream = io.StringIO()
    writer = csv.DictWriter(stream, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(plain)
    return stream.getvalue()


def _page(results: dict[str, Any], figures: dict[str, Figure]) -> str:
    task, samples = results["task"], results["samples"]
    names = results["figures"]
    parts = [f"<h1>{text(task['name'])}</h1><p>{text(task['kind'])}; {samples['n']} samples, chips of {_shape(samples['chip'])}.</p>"]
    parts.append(
        "<h2>Results</h2><p class=quiet>Means over seeds, ± their sample standard deviation; of an untrained encoder "
        "there is one draw of parameters, so its spread is the probes' alone. " + _order(names[0]) + "</p>"
    )
    pairs = [key for key in ("train_group", "test_group") if key in results["means"][0]]
    parts.append(table([*KEYS, *pairs, "folds", "seeds", *names], [_mean_row(row, [*KEYS, *pairs], names) for row in results["means"]]))
    for pair in results["transfer"]:
        few = "" if pair["per_class"] is None else f", {pair['per_class']} labels a class"
        title = ", ".join(str(pair[key]) for key in KEYS if key != "per_class" and pair[key] is not None) + few
        parts.append(f"<h3>Transfer: {text(title)}</h3>{_transfer(pair['rows'])}")
    if results["retrieval"]:
        quiet = "The test side asks and the training side answers, by cosine similarity. "
        parts.append(f"<h2>Retrieval</h2><p class=quiet>{quiet}Without features: expectation over random orders.</p>")
        keys = list(results["retrieval"][0])
        body = [[_figure(v, None) if isinstance(v, float) else v for v in (row[key] for key in keys)] for row in results["retrieval"]]
        parts.append(table(keys, body))
    parts += [f"<h2>{text(caption)}</h2>{figure_image(figure, caption)}" for caption, figure in figures.items()]
    parts.append("<h2>Samples</h2>" + table(["left out because", "count"], [[*item] for item in samples["dropped"].items()]))
    for split in results["splits"]:
        counts = split["counts"]
        keys = ", ".join(f"{key} {value}" for key, value in split.items() if key in ("fold", "train_group", "test_group"))
        parts.append(
            f"<h3>Split {text(keys)}</h3><p>{split['train_n']} train, {split['test_n']} test; left out: {text(split['dropped'])}.</p>"
        )
        if split["not_trained_on"]:
            parts.append(f"<p><b>Not in the training side: {text(', '.join(split['not_trained_on']))}.</b></p>")
        if counts["train"]:
            parts.append(table(["class", "train", "test"], [[name, n, counts["test"][name]] for name, n in counts["train"].items()]))
    if results["features"]:
        keys = ["features", "layer", "pooling", "width", "filled"]
        parts.append("<h2>Features</h2><p class=quiet>filled: values that were not observed, which got the mean or were left out.</p>")
        parts.append(table(keys, [[row[key] for key in keys] for row in results["features"]]))
    parts.append("<h2>Models and versions</h2>")
    parts.append(table(["model", "source", "SHA-256"], [[m["name"], m["source"], m["sha256"][:16]] for m in results["models"]]))
    parts.append(table(["package", "version"], [[*item] for item in results["versions"].items()]))
    parts.append(f"<h2>Task</h2><pre>{text(json.dumps(task, indent=1))}</pre>")
    return page(task["name"], parts)


def _order(figure: str) -> str:
    return f"Sorted by {text(figure)}, {'least' if figure in LESS_IS_BETTER else 'largest'} first, for each number of labels a class."


def _mean_row(row: dict[str, Any], keys: list[str], names: list[str]) -> list[Any]:
    cells: list[Any] = ["all" if key == "per_class" and row[key] is None else row[key] for key in keys]
    return [*cells, row["folds"], row["seeds"], *(_figure(row[name], row[f"{name}_sd"]) for name in names)]


def _figure(mean: float | None, sd: float | None) -> str:
    return "–" if mean is None else f"{mean:.4g}" if sd is None else f"{mean:.4g} ± {sd:.2g}"


def _transfer(rows: list[dict[str, Any]]) -> str:
    tests = list(rows[0]["to"])
    body = [[row["train_group"], *(_figure(cell["mean"], cell["sd"]) if cell else "–" for cell in row["to"].values())] for row in rows]
    return table([f"{rows[0]['figure']}: train on", *(f"test {name}" for name in tests)], body)


def _shape(shape: list[int]) -> str:
    return f"{shape[0]} bands, {shape[1]} x {shape[2]} pixels"
