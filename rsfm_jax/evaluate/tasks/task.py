"""A task file: what is predicted, from which samples, split how, by which probes. YAML, read strictly into frozen dataclasses.

The fields below, and those of `task_sources`, `restored_source` and `task_extras`, are the format. Paths in it are relative to
``--data_root``, or to the task file's folder. Nothing is read here but the task file itself; scenes of imagery have the fields of
`scenes.yaml` and are read by `rsfm_jax.ingest.scenes`.
"""

import dataclasses
import pathlib
from typing import Literal

from rsfm_jax.errors import InputError, nearest
from rsfm_jax.evaluate.probing.gaussian_probes import COMPONENTS, WITH_NOISE
from rsfm_jax.evaluate.probing.probe_models import probe_names
from rsfm_jax.evaluate.tasks.fields import parse
from rsfm_jax.evaluate.tasks.restored_source import Restored
from rsfm_jax.evaluate.tasks.task_extras import Noise, Retrieval
from rsfm_jax.evaluate.tasks.task_sources import Catalogue, Points, Rasters, Value
from rsfm_jax.ingest.fields import load_yaml

FIGURES = {  # of each kind, the one that ranks first; figures in `LESS_IS_BETTER` are the better the smaller
    "classification": ("accuracy", "macro_f1", "weighted_f1", "mean_iou", "log_loss", "brier", "ece"),
    "multilabel": ("map_macro", "map_micro", "f1_macro", "f1_micro"),
    "regression": ("rmse", "mae", "r2", "target_sd"),
    "segmentation": ("mean_iou", "macro_f1", "weighted_f1", "accuracy"),
    "restoration": ("psnr", "ssim", "sam_deg", "ergas", "q2n", "rmse", "psnr_gap", "sam_deg_gap", "rmse_gap"),
}
LESS_IS_BETTER = ("rmse", "mae", "log_loss", "brier", "ece", "sam_deg", "ergas", "sam_deg_gap", "rmse_gap")


@dataclasses.dataclass(frozen=True)
class Spatial:
    """Trains on one side of a line on the ground and tests on the other.

    Attributes:
      axis: `x`: trains west of the line; `y`: trains south of it.
      at_m: Where the line is, in the images' coordinate system; None for the middle of the samples.
      gap_m: Width of a strip around it, without samples.
    """

    kind: Literal["spatial"]
    axis: Literal["x", "y"]
    gap_m: float
    at_m: float | None = None


@dataclasses.dataclass(frozen=True)
class Blocks:
    """Cross-validation over blocks of ground, as `rsfm_jax.evaluate.probing.splits.spatial_blocks`."""

    kind: Literal["blocks"]
    block_m: float
    folds: int
    gap_m: float
    seed: int = 0


@dataclasses.dataclass(frozen=True)
class Transfer:
    """Scenes are dealt to training and test, then every group of `by` trains for every group, as `splits.group_transfer`."""

    kind: Literal["transfer"]
    by: str
    test_share: float = 0.3
    seed: int = 0


@dataclasses.dataclass(frozen=True)
class Column:
    """Sides that a column of the samples names."""

    kind: Literal["column"]
    column: str
    train: tuple[Value, ...]
    test: tuple[Value, ...]


@dataclasses.dataclass(frozen=True)
class Encoding:
    """What is asked of the encoder.

    Attributes:
      layers: Blocks to tap, from 0; negative ones from the end. The final norm follows each.
      pooling: `mean` over the tokens with an observation, `token` of the patch that holds the sample's pixel, or `mean+token`.
      location: Whether the model is told where a chip lies.
      date: Whether it is told when it was seen.
      patch: Patch side, where the model has several for the sensor.
    """

    layers: tuple[int, ...] = (-1,)
    pooling: tuple[Literal["mean", "token", "mean+token"], ...] = ("mean",)
    location: bool = True
    date: bool = True
    patch: int | None = None


@dataclasses.dataclass(frozen=True)
class Baselines:
    """Features without an encoder: `raw_px` is the side of the window of pixels, `statistics_px` sides of those of mean and deviation."""

    raw_px: int = 8
    statistics_px: tuple[int, ...] = ()


@dataclasses.dataclass(frozen=True)
class Training:
    """How segmentation and restoration are trained.

    Attributes:
      head: Of segmentation: `linear`, `uper` or `pyramid` of `rsfm_jax.torch.heads.segmentation`.
      layers_by: How the tapped layers come to restoration's head: all of them, or as one map by `rsfm_jax.torch.heads.aggregate`.
      modes: What of the encoder trains, as `rsfm_jax.torch.tuning.prepare` takes it.
      lrs: Learning rates to choose from, on the validation part of the training side.
      steps: Optimiser steps at most.
      check_every: Steps between looks at the validation part.
      patience: Looks without a better mean IoU (PSNR in restoration) that end a run.
      batch_size: Chips of a step.
      validation_share: Of the groups of the training side.
      unet_width: Channels of the first level of the U-Net beside it.
      class_weights: `balanced` weighs a class in the loss by the inverse of its share of the training pixels, for rare ones.
    """

    head: Literal["linear", "uper", "pyramid"] = "linear"
    layers_by: Literal["concatenation", "learned", "distinctness", "variance"] = "concatenation"
    modes: tuple[Literal["frozen", "lora", "full"], ...] = ("frozen",)
    lrs: tuple[float, ...] = (1e-3, 1e-2)
    steps: int = 400
    check_every: int = 40
    patience: int = 3
    batch_size: int = 16
    validation_share: float = 0.2
    unet_width: int = 16
    class_weights: Literal["none", "balanced"] = "none"

    def __post_init__(self) -> None:
        numbers = (*self.lrs, self.steps, self.check_every, self.patience, self.batch_size, self.unet_width)
        if not self.lrs or not self.modes or min(numbers) <= 0 or not 0 < self.validation_share < 1:
            raise InputError("lrs, modes, steps, check_every, patience, batch_size, unet_width must be positive, validation_share a share")


@dataclasses.dataclass(frozen=True)
class Task:
    """One task.

    Attributes:
      name: For people.
      kind: What is predicted.
      source: Where samples come from.
      split: Which train and which test.
      classes: Values in the labels and their names, in order. None where there are no classes, and where TFDS has the names.
      ignore: Values in the labels that mean no label.
      probes: As `rsfm_jax.evaluate.probing.probes.probe` takes them; not for segmentation and restoration.
      seeds: Of probes and of training.
      per_class: Numbers of labels of each class to train on; null for all.
      metrics: Figures in tables, the first one ranks; empty for all.
      encoding: What is asked of the encoder.
      baselines: Features beside it.
      training: For segmentation and restoration.
      inner_groups: Column whose groups no inner fold tears; None for shapes, or blocks of ground of a chip's size.
      retrieval: That the test side is also asked to find what is alike in the training side; None for not. With classes or labels only.
      noise: Of the measurements, for the probe `bayesian_qda_noise`.
      qda_components: Principal components of the training side's features that the Gaussian probes keep, at most.
    """

    name: str
    kind: Literal["classification", "multilabel", "regression", "segmentation", "restoration"]
    source: Rasters | Points | Catalogue | Restored
    split: Spatial | Blocks | Transfer | Column
    classes: dict[Value, str] | None = None
    ignore: tuple[Value, ...] = ()
    probes: tuple[str, ...] = ("linear", "knn")
    seeds: tuple[int, ...] = (0, 1, 2)
    per_class: tuple[int | None, ...] = (None,)
    metrics: tuple[str, ...] = ()
    encoding: Encoding = Encoding()
    baselines: Baselines = Baselines()
    training: Training = Training()
    inner_groups: str | None = None
    noise: Noise | None = None
    retrieval: Retrieval | None = None
    qda_components: int = COMPONENTS

    def __post_init__(self) -> None:
        if (self.noise is not None) != (WITH_NOISE in self.probes) or self.qda_components < 1:
            raise InputError(
                f"noise is {self.noise}, qda_components {self.qda_components} and probes {list(self.probes)}; expected noise if and only "
                f"if {WITH_NOISE} is among the probes, and at least one component"
            )
        for key, given, choices in (("probes", self.probes, probe_names(self.kind)), ("metrics", self.metrics, FIGURES[self.kind])):
            for name in given:
                if name not in choices:
                    raise InputError(f"{key}: {name!r} is not known for {self.kind} (known: {', '.join(choices)}){nearest(name, choices)}")
        if not self.seeds or len(set(self.seeds)) < len(self.seeds) or not self.probes:
            raise InputError(f"seeds are {list(self.seeds)} and probes {list(self.probes)}; expected some of both, each once")
        named, in_files = self.kind in ("classification", "segmentation"), not isinstance(self.source, Catalogue)
        if named and in_files and not self.classes:
            raise InputError(f"classes are missing; {self.kind} needs the values in the labels and their names")
        repeated = self.classes is not None and len(set(self.classes.values())) < len(self.classes)
        if self.classes is not None and (not named or len(self.classes) < 2 or repeated):
            raise InputError(f"classes are {self.classes} for {self.kind}; expected two or more different names, for classes only")
        if self.kind == "segmentation" and not (isinstance(self.source, Rasters) and self.source.at == "grid"):
            raise InputError("segmentation needs a source of kind rasters with at: grid")
        if (self.kind == "restoration") != isinstance(self.source, Restored):
            raise InputError(f"kind is {self.kind} and source of kind {self.source.kind}; restoration and restored go together")
        if self.kind == "restoration" and (self.training.head, self.training.class_weights) != ("linear", "none"):
            raise InputError("training: head and class_weights are of segmentation; restoration has one head")
        if self.kind != "restoration" and self.training.layers_by != "concatenation":
            raise InputError(f"training: layers_by is {self.training.layers_by!r} for {self.kind}; it is of restoration")
        if self.kind == "multilabel" and isinstance(self.source, Rasters):
            raise InputError("multilabel needs a source of kind points or tfds")
        if isinstance(self.source, Points) and (len(self.source.target) > 1) != (self.kind == "multilabel"):
            raise InputError(f"target is {list(self.source.target)} for {self.kind}; expected one column, and several for multilabel")
        if self.retrieval is not None and self.kind not in ("classification", "multilabel"):
            raise InputError(f"retrieval is given for {self.kind}; what is alike is known for classification and multilabel only")
        if self.per_class != (None,) and self.kind != "classification":
            raise InputError(f"per_class is {list(self.per_class)} for {self.kind}; few labels are drawn for classification only")

    @property
    def figures(self) -> tuple[str, ...]:
        """Figures in tables, the first one ranks; those of gaps only where the source makes some, or the task names them."""
        gaps = not isinstance(self.source, Restored) or self.source.gaps is not None
        return self.metrics or tuple(name for name in FIGURES[self.kind] if gaps or not name.endswith("_gap"))


def read_task(file: pathlib.Path) -> Task:
    """Reads a task file.

    Args:
      file: YAML.

    Returns:
      The task.

    Raises:
      InputError: There is no such file, or anything is wrong in it; names the file and the key.
    """
    if not file.is_file():
        near = nearest(file.name, [path.name for path in file.parent.glob("*.yaml")] if file.parent.is_dir() else [])
        raise InputError(f"--task={file}: no such file{near}")
    return parse(str(file), load_yaml(file), Task)
