"""What of a model's parameters goes into which file, under PyTorch's names."""

from rsfm_jax.models.build import Params, abstract_model, merge
from rsfm_jax.models.spec import ModelSpec, slot_key
from rsfm_jax.models.tokenizer import WaveLinears
from rsfm_jax.models.torch_names import Arrays, to_torch


def encoder_state_dict(spec: ModelSpec, params: Params) -> Arrays:
    """The encoder's parameters under the names of `rsfm_jax/torch/modeling_rsfm.py`.

    Patch embeddings that are generated from wavelengths are worked out for each kind of slot.

    Args:
      spec: The model's spec, with compute_dtype float32.
      params: The whole model's parameters.

    Returns:
      Contiguous float32 arrays: ``patch_embed.*``, ``encodings.*``, ``cls_token``, ``blocks.N.*``, ``norm.*``.
    """
    encoder = dict(params["encoder"])
    embed = merge(abstract_model(spec).graphdef, params).encoder.patch_embed
    if isinstance(embed, WaveLinears):
        weights = {slot_key(slot): embed.weights(slot) for slot in spec.slots}
        encoder["patch_embed"] = {"slots": {key: {"kernel": kernel, "bias": bias} for key, (kernel, bias) in weights.items()}}
    return to_torch(encoder)


def pretraining_state_dict(spec: ModelSpec, params: Params) -> Arrays:
    """What pretraining needs beside the encoder's file.

    Args:
      spec: The model's spec.
      params: The whole model's parameters.

    Returns:
      Contiguous float32 arrays: ``decoder.*``, and ``patch_embed_generator.*`` where patch embeddings are generated.
    """
    state = to_torch(params["decoder"], "decoder.")
    if spec.tokenizer.kind == "wavelength":
        state |= to_torch(params["encoder"]["patch_embed"], "patch_embed_generator.")
    return state
