"""The networks of DINOv2: a backbone with a head for class tokens and another one for patch tokens."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from augscale.networks.backbones import Backbone
from augscale.networks.head import DINOHead
from augscale.networks.stochastic_depth import DepthDraws
from augscale.pretraining.headed_network import HeadedNetwork


class DINOv2Network(HeadedNetwork):
    """A backbone with untied heads for class and patch tokens.

    Args:
        backbone: a plain ViT if there is a patch head, else any.
        head: of the class tokens.
        ibot_head: of the masked patch tokens; None without iBOT.
        frozen_batch_norm: see `HeadedNetwork`.
    """

    def __init__(
        self, backbone: Backbone, head: DINOHead, ibot_head: DINOHead | None, *, frozen_batch_norm: bool = False
    ) -> None:
        super().__init__(backbone, head, frozen_batch_norm=frozen_batch_norm)
        self.ibot_head = ibot_head
        if ibot_head is not None:
            self.mask_token = nn.Parameter(torch.zeros(1, backbone.embed_dim))

    def body_parameters(self) -> dict[str, nn.Parameter]:
        """The backbone's parameters and the mask token, which is part of its input."""
        token = {} if self.ibot_head is None else {"mask_token": self.mask_token}
        return super().body_parameters() | token

    def forward(  # type: ignore[override]  # three outputs of one call, as a wrapper for several processes needs it
        self,
        global_crops: Tensor,
        local_crops: Tensor,
        chosen: Tensor | None = None,
        *,
        masked: bool = False,
        draws: DepthDraws | None = None,
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Outputs of the class tokens of all crops, and of chosen patches of the global ones.

        Args:
            global_crops: float, shape (N, 3, s, s).
            local_crops: float, shape (N', 3, s', s'); may be empty.
            chosen: bool, shape (N, P), patches whose outputs are wanted; None without iBOT.
            masked: replace the chosen patches by the mask token, as the student sees them.
            draws: random numbers of stochastic depth, for backbones that accept them.
        Returns:
            Prototype scores of class tokens, float32, shape (N + N', K); embeddings of the global crops, float32, shape
            (N, D); prototype scores of the M chosen patches in their order, float32, shape (M, K), or None.
        """
        if chosen is None or self.ibot_head is None:
            embeddings, patches = self.backbone(global_crops, draws), None
        else:
            mask, token = (chosen, self.mask_token) if masked else (None, None)
            embeddings, tokens = self.backbone.tokens(global_crops, mask, token, draws)
            patches = self.ibot_head(tokens[chosen])
        classes = embeddings
        if len(local_crops):
            classes = torch.cat([embeddings, self.backbone(local_crops, draws)])
        return self.head(classes), embeddings.float(), patches
