"""One map from several tapped layers: a weighted mean, by learned weights or by what the layers' covariance says.

Legend: B batch, L layers, D encoder width, h w rows and columns of patches.
"""

from typing import Literal

import torch
from torch import nn

from rsfm_jax.torch.heads.convolutions import Features, check_features


def weighted_sum(features: Features, weights: torch.Tensor) -> torch.Tensor:
    """Sums layers (B, D, h, w) by weights (B, L)."""
    return torch.einsum("bl,lbdhw->bdhw", weights.to(features[0].dtype), torch.stack(list(features)))


class LearnedAggregation(nn.Module):
    """A softmax weight per layer, equal at the start.

    Source: ELMo's scalar mix, https://arxiv.org/abs/1802.05365, section 3.2, without its overall scale.
    """

    def __init__(self, width: int, layers: int) -> None:
        """Builds the weights.

        Args:
          width: D.
          layers: L.
        """
        super().__init__()
        self.width = width
        self.logits = nn.Parameter(torch.zeros(layers))

    def forward(self, features: Features) -> torch.Tensor:
        """L layers, each (B, D, h, w), to (B, D, h, w).

        Raises:
          ValueError: features of another width or number.
        """
        check_features(features, self.width, len(self.logits))
        return weighted_sum(features, self.logits.softmax(dim=0).expand(len(features[0]), -1))


class CovarianceAggregation(nn.Module):
    """Weights from covariances, per example, without parameters.

    Each layer's map is centred over its positions, channel by channel. Then, with temperature t,

    * ``by="distinctness"``: R is the correlation of each pair of layers (the cosine of their centred maps); a layer weighs
      softmax(-r / t), where r is its mean |R| with the others. Layers that repeat others weigh less. The scale of a layer has no influence.
    * ``by="variance"``: v is the trace of the layer's channel covariance; a layer weighs softmax(log v / t), which for t = 1 is its share
      of all variance. Give layers after the encoder's final norm: without it, scale alone gives a ViT's last layers most of the variance.

    A constant map has correlation 0 with all and variance 0; where all are constant, they weigh the same.

    Source: the idea of ADWM's cross-feature weighting, https://arxiv.org/abs/2503.13214 (abstract: it "adjusts contributions across layers
    based on inter-layer correlations" found in a covariance matrix). Theirs makes the weights from the covariance by a nonlinear function;
    these two rules are our own simple reading, and no result of that paper is claimed for them.
    """

    def __init__(self, width: int, by: Literal["distinctness", "variance"] = "distinctness", temperature: float = 1.0) -> None:
        """Chooses the rule.

        Args:
          width: D.
          by: The rule.
          temperature: t; small ones favour one layer, large ones make the weights equal.

        Raises:
          ValueError: an unknown rule, or a temperature that is not positive.
        """
        super().__init__()
        if by not in ("distinctness", "variance"):
            raise ValueError(f"by is {by!r}; expected 'distinctness' or 'variance'")
        if not temperature > 0:
            raise ValueError(f"temperature is {temperature}; expected more than 0")
        self.width, self.by, self.temperature = width, by, temperature

    def weights(self, features: Features) -> torch.Tensor:
        """The weights that `forward` uses, (B, L), float32 or better; each row sums to 1."""
        check_features(features, self.width)
        x = torch.stack(list(features), dim=1).flatten(3)
        x = x.to(torch.promote_types(x.dtype, torch.float32))
        x = (x - x.mean(dim=-1, keepdim=True)).flatten(2)
        tiny = torch.finfo(x.dtype).tiny
        if self.by == "variance":
            return (x.square().mean(dim=-1).clamp(min=tiny).log() / self.temperature).softmax(dim=1)
        x = nn.functional.normalize(x, dim=-1, eps=tiny)
        others = max(len(features) - 1, 1)
        repeated = ((x @ x.transpose(1, 2)).abs().sum(dim=-1) - x.square().sum(dim=-1)) / others
        return (-repeated / self.temperature).softmax(dim=1)

    def forward(self, features: Features) -> torch.Tensor:
        """Layers, each (B, D, h, w), to (B, D, h, w).

        Raises:
          ValueError: features of another width, or on different grids.
        """
        return weighted_sum(features, self.weights(features))
