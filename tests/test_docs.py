"""The tutorial's code runs as it is printed."""

import os
import pathlib
import re

import pytest

pytest.importorskip("torch", reason="no CPU wheel of PyTorch for this Python")


def test_downstream(repo: pathlib.Path, exported: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, capsys):
    blocks = re.findall(r"```python\n(.*?)```", (repo / "docs" / "downstream.md").read_text(), re.DOTALL)
    assert len(blocks) >= 6
    os.symlink(exported, tmp_path / "weights")
    os.symlink(repo / "examples" / "scenes", tmp_path / "scenes")
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {"__name__": "downstream"}
    for i, block in enumerate(blocks):
        exec(compile(block, f"docs/downstream.md, block {i + 1}", "exec"), names)
    said = capsys.readouterr().out
    share = float(re.search(r"([\d.]+) of the pixels", said)[1])
    majority = max(names["green"][names["test"]].float().mean().item(), 1 - names["green"][names["test"]].float().mean().item())
    assert share > majority + 0.02
    assert {file.name for file in tmp_path.iterdir()} == {"weights", "scenes", "tuned", "embedding.tif", "chips.parquet", "map.tif"}
