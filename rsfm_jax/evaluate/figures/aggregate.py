"""From rows of figures, one for each seed, to means with their spread, and from those to transfer tables. All goes into JSON.

A row is a dict. Its keys are of three sorts: those that say what was run (`by`), `seed`, and figures.
"""

from collections.abc import Mapping, Sequence
import math
import statistics
from typing import Any

from rsfm_jax.errors import InputError

Row = Mapping[str, Any]


def over_seeds(rows: Sequence[Row], by: Sequence[str], figures: Sequence[str]) -> list[dict[str, Any]]:
    """Mean and spread of figures over seeds.

    Args:
      rows: Rows with the keys of ``by``, `seed` and ``figures``.
      by: Keys that tell apart what was run; rows that agree in them are averaged.
      figures: Keys to average, numbers or None where a figure is not defined.

    Returns:
      In the order of the rows, one for each combination: the keys of ``by``; `seeds`, how many; each figure, and under `FIGURE_sd` its
      sample standard deviation, None for one seed. A figure that some seed has not is None, with None as deviation, and named in
      `undefined` with how many seeds lack it.

    Raises:
      InputError: There are no rows, a row lacks a key, a figure is no finite number, or a seed comes twice with the same keys.
    """
    if not rows:
        raise InputError("there are no rows to average")
    together: dict[tuple[Any, ...], list[Row]] = {}
    for index, row in enumerate(rows):
        missing = [key for key in (*by, "seed", *figures) if key not in row]
        if missing:
            raise InputError(f"row {index} has no {', '.join(missing)}; it has {', '.join(row)}")
        for key in figures:
            _must_be_number(index, key, row[key])
        together.setdefault(tuple(row[key] for key in by), []).append(row)
    means = []
    for identity, same in together.items():
        keys = dict(zip(by, identity, strict=True))
        seeds = [row["seed"] for row in same]
        if len(set(seeds)) < len(seeds):
            raise InputError(f"rows of {keys} have seeds {seeds}; expected each once (is a key missing in by?)")
        mean: dict[str, Any] = {**keys, "seeds": len(seeds), "undefined": {}}
        for key in figures:
            values = [row[key] for row in same if row[key] is not None]
            if len(values) < len(same):
                mean["undefined"][key] = len(same) - len(values)
            whole = len(values) == len(same)
            mean[key] = statistics.fmean(values) if whole else None
            mean[f"{key}_sd"] = statistics.stdev(values) if whole and len(values) > 1 else None
        means.append(mean)
    return means


def transfer_table(means: Sequence[Row], figure: str) -> list[dict[str, Any]]:
    """A transfer matrix of one figure: a row for each group trained on.

    Args:
      means: Rows of `over_seeds` with `train_group` and `test_group`, one for each pair, of one probe and model.
      figure: A key of them.

    Returns:
      For each training group: `train_group`; `figure`, its name; `to`, by test group (names as strings) a dict of `mean`, `sd` and `seeds`,
      or None where the pair was not run; `within`, the mean on the same group, None without one; `across`, the mean over the other test
      groups that have one; `without_mean`, names of test groups that have none. Groups are in the order of the rows.

    Raises:
      InputError: There are no rows, a row lacks a key, or a pair comes twice.
    """
    if not means:
        raise InputError("there are no rows for a transfer table")
    pairs: dict[tuple[Any, Any], Row] = {}
    for index, row in enumerate(means):
        missing = [key for key in ("train_group", "test_group", "seeds", figure, f"{figure}_sd") if key not in row]
        if missing:
            raise InputError(f"row {index} has no {', '.join(missing)}; it has {', '.join(row)}")
        pair = row["train_group"], row["test_group"]
        if pair in pairs:
            raise InputError(f"training on {pair[0]} and testing on {pair[1]} comes twice; give the rows of one probe and model")
        pairs[pair] = row
    tests = list(dict.fromkeys(test for _, test in pairs))
    table = []
    for train in dict.fromkeys(train for train, _ in pairs):
        cells = {test: _cell(pairs.get((train, test)), figure) for test in tests}
        there = {test: cell["mean"] for test, cell in cells.items() if cell and cell["mean"] is not None}
        others = [mean for test, mean in there.items() if test != train]
        table.append(
            {
                "train_group": train,
                "figure": figure,
                "to": {str(test): cell for test, cell in cells.items()},
                "within": there.get(train),
                "across": statistics.fmean(others) if others else None,
                "without_mean": [str(test) for test in tests if test not in there],
            }
        )
    return table


def _cell(row: Row | None, figure: str) -> dict[str, Any] | None:
    return None if row is None else {"mean": row[figure], "sd": row[f"{figure}_sd"], "seeds": row["seeds"]}


def _must_be_number(index: int, key: str, value: Any) -> None:
    if value is not None and (isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value)):
        raise InputError(f"row {index}: {key} is {value!r}; expected a finite number, or None where it is not defined")
