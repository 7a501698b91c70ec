"""Scenes streamed through encoders: blends against direct results and brute force, gaps, bounded memory.

Legend: as `rsfm_jax.evaluate.scenes.streaming`.
"""

import pathlib
import tracemalloc
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="no CPU wheel of PyTorch for this Python")

from rsfm_jax.errors import InputError  # noqa: E402
from rsfm_jax.evaluate.scenes.pieces import open_pieces  # noqa: E402
from rsfm_jax.evaluate.scenes.reading import SceneInput, WindowReader  # noqa: E402
from rsfm_jax.evaluate.scenes.streaming import BlendBand, Cells, Encode, stream_scene  # noqa: E402
from rsfm_jax.evaluate.scenes.windows import WindowPlan, blend_weights  # noqa: E402
from rsfm_jax.torch.modeling_rsfm import RSFMEncoder  # noqa: E402
from tests.evaluate.scenes import BANDS, PATCH, SENSOR, WIDTH, digital_numbers, make_model, make_scene, physical  # noqa: E402

CHANNELS = 5
KERNEL = torch.randn(CHANNELS, len(BANDS), PATCH, PATCH, generator=torch.Generator().manual_seed(0))


def local(values: torch.Tensor, *_: torch.Tensor) -> torch.Tensor:
    """Each patch sees itself only."""
    return torch.nn.functional.conv2d(values, KERNEL, stride=PATCH)


def of_window(values: torch.Tensor, valid: torch.Tensor, *_: torch.Tensor) -> torch.Tensor:
    """What a window says of a patch depends on the whole window and on the place in it."""
    ramp = torch.linspace(0, 1, values.shape[-1] // PATCH)
    return local(values) + values.mean(dim=(1, 2, 3))[:, None, None, None] + ramp[None, None, None, :] * ramp[None, None, :, None] ** 2


def stream(scene: SceneInput, encode: Encode, out: pathlib.Path, side: int, overlap: int, batch: int = 3, cells: Any = None) -> np.ndarray:
    """The blended scene (D, rows, columns), joined from the pieces."""
    cells = cells or Cells(PATCH, CHANNELS, lambda blended: blended)
    with WindowReader(scene) as reader, open_pieces(out, {}) as pieces:
        plan = WindowPlan(reader.height, reader.width, PATCH, side, overlap)
        stream_scene(reader, plan, encode, cells, pieces, batch)
        assert pieces.counts["windows"] == len(plan.row_starts) * len(plan.column_starts)
        return np.concatenate([pieces.read(k)["values"] for k in range(pieces.done)], axis=1)


def padded(height: int, width: int, border: int, to_height: int, to_width: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The whole scene (1, C, H, W), zero and not valid beyond its edge."""
    values, valid = physical(digital_numbers(height, width, border))
    fill = ((0, 0), (0, to_height - height), (0, to_width - width))
    return torch.from_numpy(np.pad(values, fill))[None], torch.from_numpy(np.pad(valid, fill))[None]


SIZES = [(61, 90, 16, 4), (90, 61, 16, 8), (64, 64, 16, 0), (40, 50, 16, 12), (7, 9, 16, 4), (50, 9, 16, 8), (33, 48, 48, 16)]


@pytest.mark.parametrize(("height", "width", "side", "overlap"), SIZES)
def test_a_local_encoder_comes_out_as_if_there_were_no_windows(tmp_path, height, width, side, overlap):
    border = min(width // 2, 13)
    blended = stream(make_scene(tmp_path, height, width, border), local, tmp_path / "out", side, overlap)
    values, valid = padded(height, width, border, -(-height // PATCH) * PATCH, -(-width // PATCH) * PATCH)
    direct = local(values)[0].numpy()
    real = valid[0].any(0).unfold(0, PATCH, PATCH).unfold(1, PATCH, PATCH).flatten(2).any(2).numpy()
    assert not real.all()
    assert blended.shape == direct.shape
    np.testing.assert_array_equal(np.isfinite(blended), np.broadcast_to(real, blended.shape))
    np.testing.assert_allclose(blended[:, real], direct[:, real], atol=1e-5)


@pytest.mark.parametrize("pixels", [PATCH, 1])
@pytest.mark.parametrize(("height", "width", "side", "overlap"), SIZES)
def test_blends_are_those_of_all_windows_on_one_canvas(tmp_path, height, width, side, overlap, pixels):
    def encode(*windows: torch.Tensor) -> torch.Tensor:
        grid = of_window(*windows)
        return grid if pixels == PATCH else torch.nn.functional.interpolate(grid, scale_factor=PATCH, mode="bilinear")

    cells = Cells(pixels, CHANNELS, lambda blended: blended)
    blended = stream(make_scene(tmp_path, height, width), encode, tmp_path / "out", side, overlap, cells=cells)
    plan = WindowPlan(height, width, PATCH, side, overlap)
    values, valid = padded(height, width, 0, plan.padded_height, plan.padded_width)
    canvas = np.zeros((CHANNELS, plan.padded_height // pixels, plan.padded_width // pixels))
    total, weights = np.zeros(canvas.shape[1:]), blend_weights(side // pixels, overlap // pixels)
    for row in plan.row_starts:
        for column in plan.column_starts:
            there = np.s_[..., row : row + side, column : column + side]
            place = np.s_[..., row // pixels : (row + side) // pixels, column // pixels : (column + side) // pixels]
            canvas[place] += weights * encode(values[there], valid[there])[0].numpy()
            total[place] += weights
    rows, columns = -(-height // pixels), -(-width // pixels)
    known = np.isfinite(blended[0])
    assert known.mean() > 0.9
    np.testing.assert_allclose(blended[:, known], (canvas / total)[:, :rows, :columns][:, known], atol=1e-5)


def real_encoder(folder: pathlib.Path) -> Encode:
    model = RSFMEncoder.from_folder(make_model(folder))

    def encode(values, valid, grid_m, footprint_deg, time):
        member = {"sensor": SENSOR, "bands": BANDS, "values": values, "valid": valid, "grid_m": grid_m, "time": time}
        return model([member], footprint_deg).grids[0]

    return encode


def test_the_interior_of_a_window_is_the_encoders_own_output(tmp_path):
    encode, cells = real_encoder(tmp_path / "model"), Cells(PATCH, WIDTH, lambda blended: blended)
    scene, side, overlap = make_scene(tmp_path, 80, 112), 48, 16
    blended = stream(scene, encode, tmp_path / "out", side, overlap, cells=cells)
    with WindowReader(scene) as reader, torch.inference_mode():
        read = reader.read([(32, 32)], side)
        own = encode(read.values, read.valid, read.grid_m, read.footprint_deg, read.time)[0].numpy()
    inner = slice(overlap // PATCH, (side - overlap) // PATCH)
    np.testing.assert_allclose(blended[:, 8 + 4 : 8 + 8, 8 + 4 : 8 + 8], own[:, inner, inner], atol=1e-5)
    assert not np.allclose(blended[:, 8:12, 8:12], own[:, :4, :4], atol=1e-3)


def test_seams_of_an_attention_encoder_do_not_show(tmp_path):
    encode, cells = real_encoder(tmp_path / "model"), Cells(PATCH, WIDTH, lambda blended: blended)
    scene, side = make_scene(tmp_path, 64, 208), 64

    def seam_step(overlap: int, seams: np.ndarray) -> float:
        """Mean step between columns of patches at the seams, over that of all other columns."""
        steps = np.abs(np.diff(stream(scene, encode, tmp_path / f"out{overlap}", side, overlap, cells=cells), axis=2)).mean(axis=(0, 1))
        return float(steps[seams - 1].mean() / np.delete(steps, seams - 1).mean())

    assert seam_step(0, np.array([16, 32])) > 1.3
    edges = np.array([12, 24, 16, 28])  # where a window of step 48 px begins or ends
    assert seam_step(16, edges) < 1.1


def test_results_do_not_depend_on_the_batch(tmp_path):
    scene = make_scene(tmp_path, 61, 90)
    one, many = (stream(scene, of_window, tmp_path / f"out{batch}", 16, 8, batch) for batch in (1, 100))
    np.testing.assert_allclose(one, many, atol=1e-6)


def test_windows_without_observation_are_not_encoded(tmp_path):
    seen = []

    def encode(values: torch.Tensor, valid: torch.Tensor, *_: torch.Tensor) -> torch.Tensor:
        seen.append(len(values))
        assert valid.any(3).any(2).any(1).all()
        return local(values)

    scene = make_scene(tmp_path, 32, 64, border=32)
    with WindowReader(scene) as reader, open_pieces(tmp_path / "out", {}) as pieces:
        stream_scene(reader, WindowPlan(32, 64, PATCH, 16, 0), encode, Cells(PATCH, CHANNELS, lambda blended: blended), pieces, 3)
        assert pieces.counts == {"windows": 8, "empty_windows": 4}
    assert sum(seen) == 4


def test_memory_does_not_grow_with_the_height(tmp_path):
    kernel = torch.ones(64, len(BANDS), PATCH, PATCH)

    def peak(height: int) -> tuple[int, int]:
        folder, rows = tmp_path / str(height), []
        folder.mkdir()
        cells = Cells(PATCH, 64, lambda blended: rows.append(blended.shape[1]) or blended)
        with WindowReader(make_scene(folder, height, 256)) as reader, open_pieces(folder / "out", {}) as pieces:
            plan = WindowPlan(height, 256, PATCH, 64, 16)
            tracemalloc.start()
            stream_scene(reader, plan, lambda values, *_: torch.nn.functional.conv2d(values, kernel, stride=PATCH), cells, pieces, 2)
            found = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
        assert sum(rows) == height // PATCH
        return found, max(rows)

    low, high = peak(112), peak(496)
    assert high[1] == low[1] == 64 // PATCH
    assert high[0] < 1.05 * low[0] + 100_000  # bytes of Python's own objects
    assert high[0] < 64 * (496 // PATCH) * (256 // PATCH) * 4  # the whole output


def test_a_band_is_as_high_as_a_window_and_moves_up():
    band = BlendBand(2, 3, 4)
    band.add(1, np.full((2, 3, 2), 6.0), np.full((3, 2), 0.5, np.float32))
    band.add(2, np.full((2, 3, 2), 3.0), np.full((3, 2), 1.0, np.float32))
    taken = band.take(2)
    np.testing.assert_allclose(taken[1, 0], [np.nan, 6, 4, 3])
    assert band.sums.shape == (2, 3, 4)
    np.testing.assert_allclose(band.weights, [[0, 0.5, 1.5, 1], [0, 0, 0, 0], [0, 0, 0, 0]])
    np.testing.assert_allclose(band.sums[0], [[0, 3, 6, 3], [0, 0, 0, 0], [0, 0, 0, 0]])


@pytest.mark.parametrize(
    ("encode", "error", "message"),
    [
        (lambda values, *_: local(values)[:, :3], ValueError, r"encoder returned \(1, 3, 4, 4\), expected \(1, 5, 4, 4\)"),
        (lambda values, *_: local(values) * torch.nan, ValueError, "not finite for patches with valid pixels"),
        (lambda *_: _refuse(), InputError, r"scene 'scene', windows of 16 pixels at \(row, column\) \(0, 0\): another unit"),
    ],
)
def test_what_an_encoder_does_wrong_is_named(tmp_path, encode, error, message):
    with pytest.raises(error, match=message):
        stream(make_scene(tmp_path, 32, 32), encode, tmp_path / "out", 16, 0, batch=1)
    assert not (tmp_path / ".out-unfinished").exists()


def _refuse() -> None:
    raise ValueError("another unit")


def test_a_batch_of_none(tmp_path):
    with pytest.raises(InputError, match="batch=0: must be at least 1"):
        stream(make_scene(tmp_path, 32, 32), local, tmp_path / "out", 16, 0, batch=0)
