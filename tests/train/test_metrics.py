import json
import pathlib

from etils import epath

from rsfm_jax.train.metrics import MetricsLog, read_metrics


def rows(*steps: int, loss: float = 1.0) -> list[dict[str, float]]:
    return [{"step": step, "loss": loss} for step in steps]


def test_what_is_written_is_read(tmp_path: pathlib.Path):
    assert read_metrics(epath.Path(tmp_path)) == []
    with MetricsLog(epath.Path(tmp_path), 0) as log:
        log.write(rows(1, 2))
        log.write(rows(3))
    assert read_metrics(epath.Path(tmp_path)) == rows(1, 2, 3)
    assert any((tmp_path / "tensorboard").iterdir())


def test_rows_of_later_steps_are_dropped(tmp_path: pathlib.Path):
    with MetricsLog(epath.Path(tmp_path), 0) as log:
        log.write(rows(1, 2, 3, 4))
    with MetricsLog(epath.Path(tmp_path), 2) as log:
        log.write(rows(3, loss=0.5))
    assert read_metrics(epath.Path(tmp_path)) == rows(1, 2) + rows(3, loss=0.5)
    assert [file.name for file in tmp_path.iterdir() if "unfinished" in file.name] == []


def test_a_half_written_last_line_is_left_out(tmp_path: pathlib.Path):
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows(1, 2)) + '{"step": 3, "lo')
    assert read_metrics(epath.Path(tmp_path)) == rows(1, 2)
    with MetricsLog(epath.Path(tmp_path), 2) as log:
        log.write(rows(3))
    assert read_metrics(epath.Path(tmp_path)) == rows(1, 2, 3)
