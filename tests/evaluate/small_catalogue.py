"""A small TFDS dataset with the features of EuroSAT and BigEarthNet, cut from the example scenes and written without TensorFlow."""

from collections.abc import Iterator
import contextlib
import io
import pathlib
from typing import Any

import numpy as np
import rasterio
import tensorflow_datasets as tfds

from tests.helpers import REPO

NAMES = ("dark", "bright")
SIDE = 16
NAME = "small_eurosat/all"


def chips() -> list[np.ndarray]:
    """Chips (16, 16, 4) of the first date of the Bouconne scene: bands B02, B03, B04 and B08, digital numbers."""
    with rasterio.open(REPO / "examples" / "scenes" / "bouconne" / "s2_l3a_7dates2018.tif") as dataset:
        image = dataset.read([1, 2, 3, 4]).transpose(1, 2, 0)
    rows, columns = (range(0, size - SIDE + 1, SIDE) for size in image.shape[:2])
    return [image[r : r + SIDE, c : c + SIDE] for r in rows for c in columns]


class SmallEurosat(tfds.core.GeneratorBasedBuilder):
    """Chips whose near infrared is below or above the median."""

    name = "small_eurosat"
    VERSION = tfds.core.Version("1.0.0")
    BUILDER_CONFIGS = [tfds.core.BuilderConfig(name="all", version=VERSION, description="All bands.")]

    def _info(self) -> tfds.core.DatasetInfo:
        features: dict[str, Any] = {
            "sentinel2": tfds.features.Tensor(shape=(SIDE, SIDE, 4), dtype=np.float32),
            "B08": tfds.features.Tensor(shape=(SIDE, SIDE), dtype=np.float32),
            "coarse": tfds.features.FeaturesDict({"B11": tfds.features.Tensor(shape=(8, 8), dtype=np.float32)}),
            "label": tfds.features.ClassLabel(names=NAMES),
            "labels": tfds.features.Sequence(tfds.features.ClassLabel(names=NAMES)),
            "level": tfds.features.Scalar(dtype=np.float32),
            "filename": tfds.features.Text(),
        }
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features), description="Small.")

    def _split_generators(self, dl_manager: Any) -> dict[str, Iterator[tuple[str, dict[str, Any]]]]:
        del dl_manager
        return {"train": self._generate_examples(0), "test": self._generate_examples(1)}

    def _generate_examples(self, parity: int) -> Iterator[tuple[str, dict[str, Any]]]:
        every = chips()
        levels = [float(chip[..., 3].mean()) for chip in every]
        middle = float(np.median(levels))
        for i in range(parity, len(every), 2):
            bright = levels[i] > middle
            image = every[i].astype(np.float32)
            yield (
                str(i),
                {
                    "sentinel2": image,
                    "B08": image[..., 3],
                    "coarse": {"B11": image[::2, ::2, 0]},
                    "label": int(bright),
                    "labels": [0, 1] if bright else [0],
                    "level": levels[i],
                    "filename": f"row{i // 15}",
                },
            )


def write_catalogue(folder: pathlib.Path) -> pathlib.Path:
    """Prepares the dataset in a folder and returns it."""
    tfds.disable_progress_bar()
    with contextlib.redirect_stdout(io.StringIO()):
        SmallEurosat(config="all", data_dir=str(folder), file_format="array_record").download_and_prepare()
    return folder
