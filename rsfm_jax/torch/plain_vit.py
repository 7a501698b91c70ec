"""A plain ViT in PyTorch under timm's names, for files that one sensor and date were baked into; torch only.

It reads the files of the formats "timm" and "prithvi" strictly, and is the graph of "onnx".

Legend: B batch, C bands, H W pixels, N patches, T tokens, D width.
"""

from collections.abc import Mapping
import functools
from typing import Any

import torch
from torch import nn

from rsfm_jax.torch.modeling_rsfm import Block


class PatchEmbed(nn.Module):
    """A convolution whose stride is its size."""

    def __init__(self, bands: int, width: int, patch: int, frames: bool) -> None:
        super().__init__()
        if frames:
            self.proj = nn.Conv3d(bands, width, kernel_size=(1, patch, patch), stride=(1, patch, patch))
        else:
            self.proj = nn.Conv2d(bands, width, kernel_size=patch, stride=patch)
        self.frames = frames

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, C, H, W) to (B, N, D)."""
        tokens = self.proj(x[:, :, None]).squeeze(2) if self.frames else self.proj(x)
        return tokens.flatten(2).transpose(1, 2)


class PlainVit(nn.Module):
    """Patch embedding, class token or none, positions, pre-norm blocks and a norm."""

    def __init__(
        self, width: int, depth: int, heads: int, mlp_hidden: int, bands: int, patch: int, tokens: int, epsilon: float, **options: bool
    ) -> None:
        """Builds the modules.

        Args:
          width: D.
          depth: Blocks.
          heads: Attention heads.
          mlp_hidden: Hidden width of the MLPs.
          bands: C.
          patch: Patch side in pixels.
          tokens: Rows of ``pos_embed``: N, and one for the class token where it has a position.
          epsilon: Of the layer norms.
          **options: ``cls_token``: whether there is a class token; ``frames``: whether the patch embedding has Prithvi's dim of dates.
        """
        super().__init__()
        norm = functools.partial(nn.LayerNorm, eps=epsilon)
        self.patch_embed = PatchEmbed(bands, width, patch, options.get("frames", False))
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width)) if options.get("cls_token") else None
        self.pos_embed = nn.Parameter(torch.zeros(1, tokens, width))
        self.blocks = nn.ModuleList(Block(width, heads, mlp_hidden, norm) for _ in range(depth))
        self.norm = norm(width)

    @classmethod
    def of_state_dict(cls, state: Mapping[str, torch.Tensor], heads: int, epsilon: float = 1e-6) -> "PlainVit":
        """Builds the model that a state dict is of, and loads it strictly.

        Args:
          state: Timm's names; weights don't show how many heads they have.
          heads: Attention heads.
          epsilon: Of the layer norms.

        Returns:
          The model in evaluation mode.

        Raises:
          RuntimeError: a key is missing, unknown or of a wrong shape.
        """
        proj = state["patch_embed.proj.weight"]
        depth = 1 + max(int(key.split(".")[1]) for key in state if key.startswith("blocks."))
        options = {"cls_token": "cls_token" in state, "frames": proj.ndim == 5}
        hidden = len(state["blocks.0.mlp.fc1.bias"])
        sizes: dict[str, Any] = {"bands": proj.shape[1], "patch": proj.shape[-1], "tokens": state["pos_embed"].shape[1], "epsilon": epsilon}
        model = cls(len(proj), depth, heads, hidden, **sizes, **options)
        model.load_state_dict(dict(state), strict=True)
        return model.eval()

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """Encodes images.

        Args:
          x: Normalised values, float (B, C, H, W), of the size that the positions are for.

        Returns:
          Tokens after the norm, (B, T, D), the class token first where there is one, and the tokens after each block.
        """
        tokens, layers = self.patch_embed(x), []
        if self.cls_token is None:
            tokens = tokens + self.pos_embed
        else:
            first = (self.cls_token + self.pos_embed[:, :1]).expand(tokens.shape[0], -1, -1)
            tokens = torch.cat([first, tokens + self.pos_embed[:, 1:]], dim=1)
        for block in self.blocks:
            tokens = block(tokens, None)
            layers.append(tokens)
        return self.norm(tokens), layers
