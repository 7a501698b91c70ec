"""Means, spreads and transfer tables by hand; nothing is averaged that does not belong together."""

import json
import math

import numpy as np
import pytest

from rsfm_jax.errors import InputError
from rsfm_jax.evaluate.figures.aggregate import over_seeds, transfer_table


def row(probe: str, seed: int, **figures: object) -> dict[str, object]:
    return {"probe": probe, "seed": seed, **figures}


def test_means_and_sample_deviations():
    rows = [row("knn", 0, f1=0.5, n=10), row("linear", 0, f1=1.0, n=7), row("knn", 1, f1=0.7, n=12), row("knn", 5, f1=0.9, n=14)]
    means = over_seeds(rows, ["probe"], ["f1", "n"])
    assert [mean["probe"] for mean in means] == ["knn", "linear"]
    assert means[0] == {
        "probe": "knn",
        "seeds": 3,
        "undefined": {},
        "f1": pytest.approx(0.7),
        "f1_sd": pytest.approx(0.2),
        "n": 12,
        "n_sd": 2,
    }
    assert means[1] == {"probe": "linear", "seeds": 1, "undefined": {}, "f1": 1.0, "f1_sd": None, "n": 7, "n_sd": None}
    assert means[0]["f1_sd"] == pytest.approx(np.std([0.5, 0.7, 0.9], ddof=1))
    assert json.loads(json.dumps(means, allow_nan=False)) == means


def test_an_undefined_figure_is_not_averaged_over_the_rest():
    (mean,) = over_seeds([row("knn", s, r2=value) for s, value in enumerate([0.5, None, 0.7])], ["probe"], ["r2"])
    assert (mean["r2"], mean["r2_sd"], mean["undefined"], mean["seeds"]) == (None, None, {"r2": 1}, 3)


@pytest.mark.parametrize(
    ("rows", "by", "message"),
    [
        ([], ["probe"], "no rows to average"),
        ([row("knn", 0, f1=1.0), row("linear", 0, f1=1.0)], [], r"have seeds \[0, 0\]; expected each once"),
        ([row("knn", 0)], ["probe"], "row 0 has no f1; it has probe, seed"),
        ([row("knn", 0, f1=1.0)], ["probe", "group"], "row 0 has no group"),
        ([row("knn", 0, f1=math.inf)], ["probe"], "row 0: f1 is inf; expected a finite number"),
        ([row("knn", 0, f1=True)], ["probe"], "f1 is True"),
        ([row("knn", 0, f1="0.5")], ["probe"], "f1 is '0.5'"),
        ([row("knn", 0, f1=np.float32(0.5))], ["probe"], "f1 is np.float32"),
    ],
)
def test_what_can_not_be_averaged_is_refused(rows, by, message):
    with pytest.raises(InputError, match=message):
        over_seeds(rows, by, ["f1"])


def pairs() -> list[dict[str, object]]:
    """Three training groups, two of them tested on, two seeds; one pair was not run."""
    values = {
        ("winter", "winter"): (0.9, 0.7),
        ("winter", "summer"): (0.5, 0.3),
        ("summer", "winter"): (0.6, 0.6),
        ("autumn", "summer"): (0.2, 0),
    }
    return [
        {"train_group": train, "test_group": test, "seed": seed, "f1": value}
        for (train, test), both in values.items()
        for seed, value in enumerate(both)
    ]


def test_a_transfer_table():
    means = over_seeds(pairs(), ["train_group", "test_group"], ["f1"])
    winter, summer, autumn = transfer_table(means, "f1")
    sd = pytest.approx(np.sqrt(0.02))
    assert winter["train_group"] == "winter"
    assert winter["to"]["winter"] == {"mean": pytest.approx(0.8), "sd": sd, "seeds": 2}
    assert winter["to"]["summer"] == {"mean": pytest.approx(0.4), "sd": sd, "seeds": 2}
    assert (winter["within"], winter["across"], winter["without_mean"]) == (pytest.approx(0.8), pytest.approx(0.4), [])
    assert summer["to"]["summer"] is None
    assert (summer["within"], summer["across"], summer["without_mean"]) == (None, pytest.approx(0.6), ["summer"])
    assert (autumn["within"], autumn["across"], autumn["without_mean"]) == (None, pytest.approx(0.1), ["winter"])
    json.dumps([winter, summer, autumn], allow_nan=False)


def test_a_transfer_table_of_one_model_only():
    means = over_seeds(pairs(), ["train_group", "test_group"], ["f1"])
    with pytest.raises(InputError, match="training on winter and testing on winter comes twice"):
        transfer_table(means + means, "f1")
    with pytest.raises(InputError, match="row 0 has no iou, iou_sd"):
        transfer_table(means, "iou")
    with pytest.raises(InputError, match="no rows for a transfer table"):
        transfer_table([], "f1")
