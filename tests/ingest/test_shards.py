"""Shards written by any number of workers, by runs that were killed, and of catalogues that are partly broken: the same records."""

import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import rasterio

pytest.importorskip("apache_beam", reason="Apache Beam is not installed")

from rsfm_jax.config import IngestConfig
from rsfm_jax.errors import InputError
from rsfm_jax.ingest.builder import features
from rsfm_jax.ingest.pipeline import How, run_ingest
from rsfm_jax.ingest.records import fields_of, serialised
from rsfm_jax.ingest.tasks import beam_arguments, put, result, run_tasks
from tests.helpers import REPO, assert_refused, ingest, manifest, one_slot, records, run_door, scene, write_geotiff, write_scenes_yaml

SIDE, PIXELS = 512, 32
CONFIG = """
from rsfm_jax.config import Config, IngestConfig
from rsfm_jax.layouts import Layout, Slot

def get_config():
    slot = Slot("dem", ("elevation",), 10.0, pixels=32, patch=4)
    return Config(ingest=IngestConfig(layouts=(Layout("dem", (slot,), stride_m=80.0),), val_share=0.2, split_cell_m=700.0, shard_mib=1))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> pathlib.Path:
    """Two scenes of 3,721 places each, several shards of both splits."""
    folder = tmp_path_factory.mktemp("shards") / "scenes"
    rng = np.random.default_rng(0)
    for name, left in (("a", 500_000.0), ("b", 520_000.0)):
        write_geotiff(
            folder / f"{name}.tif", rng.integers(1, 5000, (SIDE, SIDE)).astype(np.int16), left=left, tiled=True, compress="deflate"
        )
    (folder / "config.py").write_text(CONFIG)
    return write_scenes_yaml(folder, *(scene(id=name, bands={"elevation": f"{name}.tif"}) for name in "ab"))


def words(folder: pathlib.Path, out: pathlib.Path, *more: str) -> list[str]:
    return [f"--scenes={folder}", f"--out={out}", f"--config={folder / 'config.py'}", *more]


@pytest.fixture(scope="module")
def alone(folder) -> pathlib.Path:
    """What one process makes of them."""
    out = folder.parent / "alone"
    done = run_door("rsfm_jax.ingest", *words(folder, out))
    assert done.returncode == 0, done.stderr
    return out


def assert_equal_folders(one: pathlib.Path, other: pathlib.Path) -> None:
    files = [sorted(path.relative_to(root) for path in root.rglob("*") if path.is_file()) for root in (one, other)]
    assert files[0] == files[1]
    for file in files[0]:
        assert (one / file).read_bytes() == (other / file).read_bytes(), file


def test_shards_hold_their_sets_in_the_order_of_the_plan(alone):
    summary = json.loads((alone / "dataset.json").read_text())
    files = sorted(path.name for path in (alone / "records" / "image_sets" / "dem" / "1.0.0").glob("*.array_record*"))
    assert files[-1].startswith("image_sets-val.array_record-")
    train = [name for name in files if "-train." in name]
    per_shard = 2**20 // (PIXELS**2 * 2)
    assert len(train) == -(-summary["sets"]["dem"]["train"] // per_shard) > 5
    kept = [row["key"] for row in manifest(alone, "set") if row["kept"] and row["split"] == "train"]
    found = [record["key"].decode() for record in records(alone, "dem")]
    for start in range(0, len(kept), per_shard):
        assert sorted(kept[start : start + per_shard]) == sorted(found[start : start + per_shard])
        assert kept[start : start + per_shard] != found[start : start + per_shard]  # within a shard by the hashes of the keys
    assert not (alone / "work").exists()


@pytest.mark.parametrize("workers", [1, 4])
def test_any_number_of_workers_makes_the_same_files(folder, alone, tmp_path, workers):
    options = {1: ("--", "--runner=DirectRunner"), 4: ("--workers=4",)}[workers]
    done = run_door("rsfm_jax.ingest", *words(folder, tmp_path / "out", *options))
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert_equal_folders(alone, tmp_path / "out")


def test_shards_of_another_size_hold_the_same_records(folder, alone, tmp_path):
    done = run_door("rsfm_jax.ingest", *words(folder, tmp_path / "out", "--config.ingest.shard_mib=256"))
    assert done.returncode == 0, done.stderr
    one, other = (json.loads((root / "dataset.json").read_text()) for root in (alone, tmp_path / "out"))
    assert (one["sets"], one["digest"]) == (other["sets"], other["digest"])
    for name in ("count", "mean", "std", "min", "max"):
        value = one["statistics"]["dem"]["elevation"][name]
        assert other["statistics"]["dem"]["elevation"][name] == pytest.approx(value, rel=1e-12), name
    pixels = [{record["key"]: record["pixels_0"].tobytes() for record in records(root, "dem")} for root in (alone, tmp_path / "out")]
    assert pixels[0] == pixels[1]


def _heeds_ctrl_c() -> None:
    """What a shell starts in the background ignores SIGINT, and so does all that it starts."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.mark.parametrize("signal_number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
@pytest.mark.parametrize("workers", [1, 2])
def test_a_killed_run_goes_on_where_it_was(folder, alone, tmp_path, signal_number, workers):
    if workers == 2 and signal_number != signal.SIGKILL:
        pytest.skip("what Beam's processes make of a signal is Beam's")
    out, work = tmp_path / "out", tmp_path / ".out-unfinished" / "work"
    command = [sys.executable, "-m", "rsfm_jax.ingest", *words(folder, out, f"--workers={workers}")]
    for _ in range(5):  # on a busy machine it may end before the signal comes
        shutil.rmtree(out, ignore_errors=True)
        process = subprocess.Popen(
            command, cwd=REPO, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True, preexec_fn=_heeds_ctrl_c
        )
        while len(list(work.glob("dem-*.output"))) < 2 and process.poll() is None:
            time.sleep(0.005)
        os.killpg(process.pid, signal_number)
        if process.wait(60) != 0:
            break
    assert process.returncode != 0
    assert not out.exists()
    done = {path.name.removesuffix(".output") for path in work.glob("dem-*.output")}
    inputs = list(work.glob("dem-*.input"))
    assert 2 <= len(done) < len(inputs)
    written = {(work / f"{name}.array_record").stat().st_ino for name in done}
    again = run_door("rsfm_jax.ingest", *words(folder, out))
    assert again.returncode == 0, again.stderr
    assert f"{len(done)} of {len(inputs)} tasks were done by a run before" in again.stdout
    assert_equal_folders(alone, out)
    kept = {path.stat().st_ino for path in (out / "records").rglob("*.array_record*")}
    assert written <= kept  # their files were moved, not written again
    assert not (tmp_path / ".out-unfinished").exists()


def test_what_another_command_left_unfinished_is_not_taken_up(folder, tmp_path):
    unfinished = tmp_path / ".out-unfinished"
    unfinished.mkdir()
    (unfinished / "asked").write_text("something else")
    done = run_door("rsfm_jax.ingest", *words(folder, tmp_path / "out"))
    assert_refused(done, str(unfinished), "another config", "delete the folder")
    assert (unfinished / "asked").read_text() == "something else"


def test_two_programs_do_not_write_one_folder(folder, tmp_path):
    command = [sys.executable, "-m", "rsfm_jax.ingest", *words(folder, tmp_path / "out")]
    first = subprocess.Popen(command, cwd=REPO, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not (tmp_path / ".out-unfinished" / "work").exists() and first.poll() is None:
        time.sleep(0.005)
    first.send_signal(signal.SIGSTOP)
    try:
        assert_refused(run_door("rsfm_jax.ingest", *words(folder, tmp_path / "out")), "another program is writing it")
    finally:
        first.send_signal(signal.SIGCONT)
    assert first.wait(60) == 0
    assert (tmp_path / "out" / "dataset.json").exists()


def fifty(folder: pathlib.Path) -> pathlib.Path:
    """Fifty scenes, of which three cannot be opened and one has a broken block."""
    rng = np.random.default_rng(1)
    names = [f"s{i:02d}" for i in range(50)]
    for i, name in enumerate(names):
        write_geotiff(folder / f"{name}.tif", rng.integers(1, 5000, (32, 32)).astype(np.int16), left=500_000.0 + 400 * i)
    (folder / "s07.tif").write_text("not an image")
    content = (folder / "s20.tif").read_bytes()
    (folder / "s20.tif").write_bytes(content[: len(content) // 2])
    write_geotiff(folder / "s41.tif", np.ones((32, 32), np.int16), crs=None)
    return write_scenes_yaml(folder, *(scene(id=name, bands={"elevation": f"{name}.tif"}) for name in names))


def test_three_broken_scenes_of_fifty_are_left_out_and_named(tmp_path):
    folder = fifty(tmp_path / "scenes")
    done = run_door("rsfm_jax.ingest", f"--scenes={folder}", f"--out={tmp_path / 'out'}")
    assert done.returncode == 0, done.stderr
    for name, words in (("s07", "cannot be read as an image"), ("s20", "truncated"), ("s41", "no coordinate reference system")):
        (line,) = (line for line in done.stdout.splitlines() if f"left out: scene {name!r}" in line)
        assert words in line
    rows = {row["id"]: row for row in manifest(tmp_path / "out", "scene")}
    assert {name for name, row in rows.items() if row["reason"] == "cannot be read"} == {"s07", "s20", "s41"}
    assert len(rows) == 50
    assert sum(row["sets"] > 0 for row in rows.values()) == 47
    assert set(json.loads((tmp_path / "out" / "dataset.json").read_text())["broken_scenes"]) == {"s07", "s20", "s41"}


def test_strict_stops_at_the_first(tmp_path):
    folder = fifty(tmp_path / "scenes")
    done = run_door("rsfm_jax.ingest", f"--scenes={folder}", f"--out={tmp_path / 'out'}", "--strict")
    assert_refused(done, "scene 's07'", "cannot be read as an image")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["scenes"]


def test_a_block_that_cannot_be_read_costs_its_sets_alone(tmp_path):
    folder = tmp_path / "scenes"
    values = np.random.default_rng(0).integers(0, 5000, (1024, 1024)).astype(np.int16)
    write_geotiff(folder / "dem.tif", values, tiled=True, blockxsize=64, blockysize=64, compress="deflate")
    with rasterio.open(folder / "dem.tif") as source:
        start, size = (int(source.get_tag_item(f"BLOCK_{what}_3_5", "TIFF", bidx=1)) for what in ("OFFSET", "SIZE"))
    content = bytearray((folder / "dem.tif").read_bytes())
    content[start : start + size] = bytes(size)
    (folder / "dem.tif").write_bytes(content)
    dataset, summary = ingest(write_scenes_yaml(folder, scene()), one_slot(pixels=64, stride_m=640.0))
    rows = manifest(dataset, "set")
    (lost,) = (row for row in rows if not row["kept"])
    assert lost["reason"] == "a scene cannot be read"
    assert "dem.tif cannot be read at" in lost["error"]
    assert lost["members"][0]["window"] == [3 * 64, 5 * 64]
    assert summary["sets"]["dem"]["train"] == 255
    assert "dem.tif cannot be read at" in summary["partly_unreadable_scenes"]["one"]
    for record in records(dataset, "dem"):
        row, column = round(-(record["centre_m"][1] - 4_800_000) / 10) - 32, round((record["centre_m"][0] - 500_000) / 10) - 32
        np.testing.assert_array_equal(record["pixels_0"][..., 0], values[row : row + 64, column : column + 64])


def test_kept_keys_alone_are_read(folder, alone, tmp_path):
    some = {row["key"] for row in manifest(alone, "set") if row["kept"]}
    some = set(sorted(some)[::7])
    layout = one_slot(pixels=PIXELS, stride_m=80.0)
    config = IngestConfig(layouts=(layout,), val_share=0.2, split_cell_m=700.0)
    summary = run_ingest(folder, tmp_path / "out", config, How(keep=some))
    assert sum(summary["sets"]["dem"].values()) == len(some)
    found = {record["key"].decode() for split in summary["sets"]["dem"] for record in records(tmp_path / "out", "dem", split)}
    assert found == some
    with pytest.raises(
        InputError, match=f"keeps 1 of {len(some) + 1} image sets that these scenes and this config do not give, as 'dem/z/0,0'"
    ):
        run_ingest(folder, tmp_path / "other", config, How(keep=some | {"dem/z/0,0"}))
    assert not (tmp_path / "other").exists()


def test_options_of_workers():
    assert beam_arguments(1, []) is None
    assert beam_arguments(1, ["--runner=X"]) == ["--runner=X"]
    assert "--direct_num_workers=3" in (beam_arguments(3, []) or ())
    with pytest.raises(InputError, match="--workers=0: must be at least 1"):
        beam_arguments(0, [])
    with pytest.raises(InputError, match="both given"):
        beam_arguments(2, ["--runner=X"])


def _double(value: int) -> int:
    if value < 0:
        raise InputError(f"{value} is negative")
    return 2 * value


def test_tasks_that_are_done_are_not_done_again(tmp_path):
    from etils import epath

    folder = epath.Path(tmp_path)
    put(folder, "a", 1)
    run_tasks(folder, ["a"], _double, None)
    put(folder, "a", 5)
    put(folder, "b", 7)
    run_tasks(folder, ["a", "b"], _double, None)
    assert [result(folder, name) for name in "ab"] == [2, 14]
    put(folder, "c", -1)
    for beam_args in (None, ["--runner=DirectRunner"]):
        with pytest.raises(InputError, match="-1 is negative"):
            run_tasks(folder, ["a", "c"], _double, beam_args)
        (tmp_path / "c.output").unlink()


@pytest.mark.parametrize("size", [1, 100, 20_000])
def test_a_record_is_what_tfds_writes(size):
    from tensorflow_datasets.core.example_serializer import ExampleSerializer

    layout, rng = one_slot(pixels=8), np.random.default_rng(0)
    fields = fields_of(layout, ["int16"])
    example = {name: rng.integers(0, 99, field[1]).astype(field[0]) if field else name * size for name, field in fields.items()}
    described = features(layout, ["int16"])
    message = ExampleSerializer(described.get_serialized_info()).get_tf_example(described.encode_example(example))
    assert serialised(fields, example) == message.SerializeToString(deterministic=True)
    with pytest.raises(ValueError, match=r"'scale_0' is float32 \(1,\); it should be float64 \(1,\)"):
        serialised(fields, example | {"scale_0": np.ones(1, np.float32)})
    with pytest.raises(ValueError, match="'crs'"):
        serialised(fields, {name: value for name, value in example.items() if name != "crs"})


def test_workers_start_without_tfds():
    code = "import rsfm_jax.ingest.shards, rsfm_jax.ingest.opening, sys; print([m for m in sys.modules if m.startswith('tensorflow')])"
    assert subprocess.run([sys.executable, "-c", code], cwd=REPO, capture_output=True, text=True, check=True).stdout == "[]\n"
