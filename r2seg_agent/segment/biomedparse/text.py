"""Text tower: CLIP's causal transformer (Radford et al. 2021), with all token embeddings as its output."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from r2seg_agent.segment.biomedparse.attention import Attention
from r2seg_agent.segment.biomedparse.config import BiomedParseConfig

NORM_EPS = 1e-12


@dataclass(frozen=True, eq=False)
class TextEmbedding:
    """One prompt: `tokens` (T, dim), begin and end token included, and `pooled` (dim,), the end token."""

    tokens: Tensor
    pooled: Tensor


class TextMlp(nn.Module):
    """Linear, QuickGELU x · σ(1.702 x), linear."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.c_fc = nn.Linear(dim, 4 * dim)
        self.c_proj = nn.Linear(4 * dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """(..., dim) → (..., dim)."""
        x = self.c_fc(x)
        out: Tensor = self.c_proj(x * torch.sigmoid(1.702 * x))
        return out


class TextBlock(nn.Module):
    """Pre-norm causal attention and MLP."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.attn = Attention(dim, heads)
        self.ln_1 = nn.LayerNorm(dim, eps=NORM_EPS)
        self.mlp = TextMlp(dim)
        self.ln_2 = nn.LayerNorm(dim, eps=NORM_EPS)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, dim) → (B, T, dim)."""
        y = self.ln_1(x)
        x = x + self.attn(y, y, y, causal=True)
        out: Tensor = x + self.mlp(self.ln_2(x))
        return out


class TextTransformer(nn.Module):
    """Token and position embeddings, blocks, final norm."""

    def __init__(self, config: BiomedParseConfig) -> None:
        super().__init__()
        self.token_embedding = nn.Embedding(config.vocabulary, config.dim)
        self.positional_embedding = nn.Parameter(torch.zeros(config.context, config.dim))
        self.resblocks = nn.ModuleList(TextBlock(config.dim, config.heads) for _ in range(config.text_layers))
        self.ln_final = nn.LayerNorm(config.dim, eps=NORM_EPS)

    def forward(self, ids: Tensor) -> Tensor:
        """(B, T) token ids, T ≤ context → (B, T, dim)."""
        x = self.token_embedding(ids) + self.positional_embedding[: ids.shape[1]]
        for block in self.resblocks:
            x = block(x)
        out: Tensor = self.ln_final(x)
        return out


class LanguageEncoder(nn.Module):
    """The tower and its projection. `logit_scale` is positive and common to all queries: it changes no choice."""

    def __init__(self, config: BiomedParseConfig) -> None:
        super().__init__()
        self.lang_encoder = TextTransformer(config)
        self.lang_proj = nn.Parameter(torch.zeros(config.dim, config.dim))
        self.logit_scale = nn.Parameter(torch.ones(()))

    def forward(self, ids: Sequence[int]) -> TextEmbedding:
        """Embed one prompt's ids, without padding: causal attention never sees what would follow the end token."""
        x = self.lang_encoder(torch.tensor([list(ids)], device=self.lang_proj.device))[0] @ self.lang_proj
        # CLIP takes the place of the largest id, the end token; the first one if the text itself held another.
        end = max(range(len(ids)), key=lambda n: ids[n])
        return TextEmbedding(tokens=x, pooled=x[end])
