"""From a run's checkpoint to a model folder, all or nothing.

Format "rsfm", every sensor and any number of members and dates:
model.safetensors         the encoder's weights, timm's names
config.json               bands with wavelength and unit, mean and std in that unit, sizes, encodings, pooling, hashes, versions
modeling_rsfm.py          the model, needs torch and safetensors only
pretraining.safetensors   with --decoder: what pretraining needs beside the encoder
The others (`rsfm_jax.export.formats`), for one sensor and date, have files of their own. All have
README.md                 the model card
parity.json               differences to the JAX features on real chips
stac_item.json            the model in a catalogue
"""

import dataclasses
import json
import pathlib
import shutil
from typing import Any

from rsfm_jax.config import config_from_dict
from rsfm_jax.data.dataset import Dataset
from rsfm_jax.export.baked_parity import check_baked
from rsfm_jax.export.baking import Baked, Choice, bake
from rsfm_jax.export.cards import baked_card, model_card
from rsfm_jax.export.checkpoint import Trained, dataset_of, read_checkpoint
from rsfm_jax.export.description import describe_model
from rsfm_jax.export.files import sha256, write_weights
from rsfm_jax.export.formats import RSFM, find_format
from rsfm_jax.export.parity import check_parity
from rsfm_jax.export.stac import FILE as STAC_FILE
from rsfm_jax.export.stac import stac_item
from rsfm_jax.export.weights import encoder_state_dict, pretraining_state_dict
from rsfm_jax.staging import check_free, new_folder
import rsfm_jax.torch.modeling_rsfm

ENCODER, PRETRAINING, MODELING = "model.safetensors", "pretraining.safetensors", "modeling_rsfm.py"


@dataclasses.dataclass(frozen=True)
class Order:
    """What is asked for.

    Attributes:
      format: "rsfm", or a key of `rsfm_jax.export.formats.FORMATS`.
      choice: What is baked, for the other formats.
      decoder: Whether the decoder goes along.
    """

    format: str = RSFM
    choice: Choice | None = None
    decoder: bool = False


def export_run(
    workdir: pathlib.Path,
    out: pathlib.Path,
    step: int | None = None,
    data: str | None = None,
    order: Order = Order(),
    average: int = 1,
    decay: float = 1.0,
) -> dict[str, Any]:
    """Writes the model folder of a run and proves its parity.

    Args:
      workdir: The run's folder.
      out: The folder to make; must not exist, or be empty.
      step: Which checkpoint; None for the newest.
      data: The run's dataset, where it has moved.
      order: Format and what belongs to it.
      average: How many checkpoints to average, see `rsfm_jax.export.checkpoint.read_checkpoint`.
      decay: Of older checkpoints in the average.

    Returns:
      ``step``, ``parameters``, ``parity_max_abs`` and the rows of ``parity``.

    Raises:
      InputError: anything wrong with the input; nothing is left at ``out``.
      ParityError: the features differ; nothing is left at ``out``.
    """
    check_free(out, "out")
    trained = read_checkpoint(workdir, step, average, decay)
    return write_folder(trained, dataset_of(trained, data), out, order)


def write_folder(trained: Trained, dataset: Dataset, out: pathlib.Path, order: Order = Order()) -> dict[str, Any]:
    """Writes the model folder of what was trained; see `export_run`."""
    description = describe_model(trained.spec, trained.run, trained.step)
    if trained.averaged:
        description["training"]["averaged"] = {str(step): share for step, share in trained.averaged.items()}
    with new_folder(out, "out") as folder:
        write = _write_rsfm if order.format == RSFM else _write_baked
        parity, card, parameters, baked = write(trained, dataset, description, folder, order)
        (folder / "parity.json").write_text(json.dumps(parity, indent=1) + "\n")
        (folder / "README.md").write_text(card)
        digests = {file.name: sha256(file) for file in sorted(folder.iterdir())}
        item = stac_item(out.name, description, parameters, digests, baked)
        (folder / STAC_FILE).write_text(json.dumps(item, indent=1) + "\n")
    worst = max(value for row in parity for name, value in row.items() if name.endswith("_max_abs"))
    return {"step": trained.step, "parameters": parameters, "parity_max_abs": worst, "parity": parity}


_Written = tuple[list[dict[str, Any]], str, int, Baked | None]


def _write_rsfm(trained: Trained, dataset: Dataset, description: dict[str, Any], folder: pathlib.Path, order: Order) -> _Written:
    """Files, then parity, card, number of parameters, and no baked model."""
    weights = encoder_state_dict(trained.spec, trained.params)
    write_weights(weights, folder / ENCODER)
    shutil.copyfile(rsfm_jax.torch.modeling_rsfm.__file__, folder / MODELING)
    if order.decoder:
        write_weights(pretraining_state_dict(trained.spec, trained.params), folder / PRETRAINING)
    description["sha256"] = {file.name: sha256(file) for file in sorted(folder.iterdir())}
    (folder / "config.json").write_text(json.dumps(description, indent=1, allow_nan=False) + "\n")
    parity = check_parity(folder, trained.spec, trained.params, dataset)
    return parity, model_card(description, parity), sum(int(x.size) for x in weights.values()), None


def _write_baked(trained: Trained, dataset: Dataset, description: dict[str, Any], folder: pathlib.Path, order: Order) -> _Written:
    """Files, then parity, card, number of parameters, and the baked model."""
    chosen, config = find_format(order.format, order.decoder), config_from_dict(trained.run["config"])
    assert order.choice
    baked = bake(trained, order.choice)
    chosen.write(baked, config, folder, order.decoder)
    parity = check_baked(folder, chosen, baked, trained, config, dataset, order.decoder)
    arrays = baked.encoder | ({f"decoder.{name}": array for name, array in baked.decoder.items()} if order.decoder else {})
    card = baked_card(description, parity, baked, chosen, config, order.decoder)
    return parity, card, sum(int(x.size) for x in arrays.values()), baked
