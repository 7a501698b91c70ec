"""Training of segmentation: every network learns what the bands tell, on a validation part that is apart, and the best look is kept."""

import copy
import dataclasses

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="no CPU wheel of PyTorch for this Python")
pytest.importorskip("sklearn", reason="the extra that evaluates is not installed")

from rsfm_jax.errors import InputError  # noqa: E402
from rsfm_jax.evaluate.evaluation import evaluate  # noqa: E402
from rsfm_jax.evaluate.figures.metrics import classification  # noqa: E402
from rsfm_jax.evaluate.networks.segment import PixelClasses, PixelsOnly  # noqa: E402
from rsfm_jax.evaluate.networks.training import predict, train, validation_part  # noqa: E402
from rsfm_jax.evaluate.networks.unet import PixelLinear, Standardise, UNet, parts_of  # noqa: E402
from rsfm_jax.evaluate.samples.samples import NO_LABEL  # noqa: E402
from rsfm_jax.evaluate.samples.sides import make_splits  # noqa: E402
from rsfm_jax.evaluate.samples.sources import read_samples  # noqa: E402
from rsfm_jax.evaluate.tasks.task import read_task  # noqa: E402
from tests.evaluate.small_scene import image, write_labels, write_model, write_scene, write_task  # noqa: E402

SOURCE = {
    "kind": "rasters",
    "images": [image()],
    "labels": [{"kind": "raster", "file": "labels.tif"}],
    "window_px": 12,
    "at": "grid",
    "stride_px": 6,
}
TRAINING = {"lrs": [0.01], "steps": 60, "check_every": 20, "batch_size": 8, "unet_width": 4}
CHANGES = {
    "kind": "segmentation",
    "source": SOURCE,
    "split": {"kind": "spatial", "axis": "x", "gap_m": 120},
    "training": TRAINING,
    "seeds": [0],
}


@pytest.fixture(autouse=True)
def _one_thread():
    """Networks this small are several times slower where threads wait for each other on busy cores."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def read(tmp_path):
    write_labels(tmp_path, write_scene(tmp_path))

    def one(**changes):
        file = write_task(tmp_path, **CHANGES | changes)
        task = read_task(file)
        samples = read_samples(task, tmp_path, file)
        return task, samples, make_splits(task, samples)[0]

    return one


def test_the_table(read, tmp_path):
    read()
    modes = {"modes": ["frozen", "lora", "full"]}
    file = write_task(tmp_path, **CHANGES | {"training": TRAINING | modes, "source": SOURCE | {"stride_px": 12}})
    results = evaluate([write_model(tmp_path / "small")], file, tmp_path / "out", tmp_path)
    rows = {(row["features"], row["mode"]): row for row in results["rows"]}
    encoders = [(name, mode) for name in ("small", "random init of small") for mode in modes["modes"]]
    assert set(rows) == {*encoders, ("unet from scratch", "full"), ("pixels", None), ("none", None)}
    nothing = rows["none", None]
    assert nothing["mean_iou"] < 0.2
    for key, row in rows.items():
        if key != ("none", None):
            assert row["mean_iou"] > nothing["mean_iou"] + 0.1, key
            assert row["n"] == nothing["n"]
    assert rows["pixels", None]["mean_iou"] > 0.8  # the bands of a pixel tell its class
    assert rows["small", "full"]["mean_iou"] != rows["small", "frozen"]["mean_iou"] != rows["small", "lora"]["mean_iou"]
    assert results["means"][0]["mean_iou"] == max(row["mean_iou"] for row in rows.values())
    assert "Test chips, small, linear, frozen" in (tmp_path / "out" / "report.html").read_text()


def test_the_validation_part_shares_no_pixel(read):
    task, samples, split = read()
    fit_rows, check_rows, dropped = validation_part(task, samples, split, 0)
    ground = samples.chips.ground
    apart = [np.abs(axis[fit_rows][:, None] - axis[check_rows]) for axis in (ground.x_m, ground.y_m)]
    assert np.maximum(*apart).min() >= 120
    assert dropped["overlaps the validation part"] > 0
    assert len(fit_rows) + len(check_rows) + sum(dropped.values()) == len(split.train)
    assert set(fit_rows) | set(check_rows) <= set(split.train)
    other = validation_part(task, samples, split, 1)[1]
    assert set(other) != set(check_rows)
    unlabelled = samples.targets.copy()
    unlabelled[split.train[:3]] = NO_LABEL
    given = dataclasses.replace(samples, targets=unlabelled)
    assert validation_part(task, given, split, 0)[2]["no label"] == 3
    one_group = dataclasses.replace(samples, groups=np.zeros(len(samples), np.int64))
    with pytest.raises(InputError, match=r"task fields: validation part of the training side: .* expected at least two"):
        validation_part(task, one_group, split, 0)


def trained(task, samples, split, steps, lr=0.05, patience=99):
    torch.manual_seed(0)
    standardise = Standardise(parts_of(samples.chips.values, samples.chips.valid, split.train, 16))
    net = PixelsOnly(PixelLinear(standardise, 4, len(samples.names)))
    start = copy.deepcopy(net.state_dict())
    how = dataclasses.replace(task.training, steps=steps, check_every=5, patience=patience)
    fit_rows, check_rows, _ = validation_part(task, samples, split, 0)
    aim = PixelClasses(task, samples, "cpu")
    groups = [{"params": list(net.parameters()), "lr": lr}]
    score, step = train(net, groups, aim, fit_rows, check_rows, how, 0, 16)
    return net, aim, check_rows, score, step, start


def test_the_best_look_is_kept(read):
    task, samples, split = read()
    net, aim, rows, score, step, start = trained(task, samples, split, 40, lr=1.0)  # too large: it jumps about
    again = classification(samples.targets[rows], predict(net, aim, rows, 5), samples.names, NO_LABEL)
    assert again["mean_iou"] == pytest.approx(score)
    assert step % 5 == 0
    shorter = trained(task, samples, split, step, lr=1.0)  # training no further than that gives the same network
    for name, weight in net.state_dict().items():
        torch.testing.assert_close(weight, shorter[0].state_dict()[name])
    assert not torch.equal(net.state_dict()["net.classifier.weight"], start["net.classifier.weight"])


def test_balanced_weights_help_a_rare_class(read):
    task, samples, split = read()
    targets = np.where(samples.targets == 2, 2, 0)
    drawn = np.random.default_rng(0).random(targets.shape) < 0.1  # a class without a mark of its own, a tenth of the pixels
    samples = dataclasses.replace(samples, targets=np.where((targets == 0) & drawn, 1, targets))
    shares = []
    for weights in ("none", "balanced"):
        weighted = dataclasses.replace(task, training=dataclasses.replace(task.training, class_weights=weights))
        net, aim, *_ = trained(weighted, samples, split, 40)
        shares.append((predict(net, aim, split.test, 50) == 1).mean())
    assert shares[0] < 0.01
    assert shares[1] > 0.03


def test_patience_ends_a_run(read, monkeypatch):
    task, samples, split = read()
    looks, scores = [], [0.2, 0.1, 0.5, 0.4, 0.5, 0.9]  # the first before training
    monkeypatch.setattr(PixelClasses, "score", lambda *_: looks.append(0) or scores[len(looks) - 1])
    *_, score, step, _ = trained(task, samples, split, 100, patience=2)
    assert (score, step, len(looks)) == (0.5, 10, 5)  # an equal look is no better one


def test_training_that_does_not_help_leaves_the_network_as_it_was(read, monkeypatch):
    task, samples, split = read()
    looks, scores = [], [0.5, 0.4, 0.5, 0.3, 0.6]
    monkeypatch.setattr(PixelClasses, "score", lambda *_: looks.append(0) or scores[len(looks) - 1])
    net, *_, score, step, start = trained(task, samples, split, 100, patience=3)
    assert (score, step, len(looks)) == (0.5, 0, 4)
    for name, weight in net.state_dict().items():
        assert torch.equal(weight, start[name]), name


def test_what_does_not_fit_is_named(read, tmp_path):
    read()
    model = write_model(tmp_path / "small")
    write_scene(tmp_path, "other")
    bands = {band: {"file": "other.tif", "index": i + 1} for i, band in enumerate(("B02", "B03", "B04"))}
    for changes, message in (
        ({"training": TRAINING | {"head": "uper"}}, "head uper takes four layers; encoding.layers has 1"),
        ({"split": CHANGES["split"] | {"gap_m": 0}}, r"overlap in scene image .*make gap_m at least 120"),
        ({"source": SOURCE | {"window_px": 4}}, "window_px is 4; the U-Net needs at least 8"),
        ({"source": SOURCE | {"images": [image(), image("other", bands=bands)]}}, r"images have \[3, 4\] bands"),
    ):
        with pytest.raises(InputError, match=message):
            evaluate([model], write_task(tmp_path, **CHANGES | changes), tmp_path / "out", tmp_path)


def test_standardised_bands():
    rng = np.random.default_rng(0)
    values, valid = rng.normal(3, 2, (5, 2, 8, 8)).astype(np.float32), rng.random((5, 2, 8, 8)) < 0.7
    valid[:2, 1] = False  # a part of the training side that has nothing of a band
    for at_a_time in (1, 2, 5):
        standardise = Standardise(parts_of(values, valid, np.arange(5), at_a_time))
        made = standardise(torch.from_numpy(values), torch.from_numpy(valid)).numpy()
        for band in range(2):
            seen = values[:, band][valid[:, band]]
            np.testing.assert_allclose(made[:, band][valid[:, band]], (seen - seen.mean()) / seen.std(), atol=1e-5)
        assert not made[~valid].any()
    valid[:, 1] = False
    with pytest.raises(ValueError, match="band 1 has no observation"):
        Standardise(parts_of(values, valid, np.arange(5), 2))


@pytest.mark.parametrize("size", [(8, 8), (12, 20), (33, 17)])
def test_a_unet_sees_its_surroundings(size):
    torch.manual_seed(0)
    values = torch.rand(2, 3, *size, requires_grad=True)
    valid = torch.ones_like(values, dtype=torch.bool)
    net = UNet(Standardise([(values.detach(), valid)]), 3, 5, width=4)
    logits = net(values, valid)
    assert logits.shape == (2, 5, *size)
    logits[0, :, 0, 0].sum().backward()
    assert values.grad is not None
    assert values.grad[0, :, 7, 7].abs().min() > 0
    assert not values.grad[1].any()
    assert all(p.grad is not None for p in net.parameters())
