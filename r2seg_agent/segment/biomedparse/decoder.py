"""Mask decoder: queries look at the image where their last mask was, and at the words of the prompt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from r2seg_agent.segment.biomedparse.attention import Attention, sine_position
from r2seg_agent.segment.biomedparse.config import BiomedParseConfig
from r2seg_agent.segment.biomedparse.text import LanguageEncoder, TextEmbedding

N_SCALES = 3
COSINE_EPS = 1e-7


@dataclass(frozen=True, eq=False)
class ImageFeatures:
    """One encoded image, maps (dim, h, w): the pixel decoder's `finest`, at stride 4, and its `scales` at 32, 16, 8.

    `small`: the mask features brought to the three sizes of `scales`, once for all layers and queries, because resizing
    and the product over channels commute.
    """

    finest: Tensor
    scales: tuple[Tensor, Tensor, Tensor]
    small: tuple[Tensor, Tensor, Tensor]

    def float32(self) -> ImageFeatures:
        """The same in float32, for a decoder in full precision after an encoder in half."""
        a, b, c = (scale.float() for scale in self.scales)
        d, e, f = (small.float() for small in self.small)
        return ImageFeatures(finest=self.finest.float(), scales=(a, b, c), small=(d, e, f))


@dataclass(frozen=True, eq=False)
class Chosen:
    """Per prompt: the `query` (P,) nearest to it, that query's mask `embedding` (P, dim) and `similarity` (P,)."""

    embedding: Tensor
    query: Tensor
    similarity: Tensor


class SelfAttentionLayer(nn.Module):
    """Post-norm self-attention with a position on queries and keys."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.self_attn = Attention(dim, heads)
        self.norm = nn.LayerNorm(dim)

    def forward(self, x: Tensor, position: Tensor, allowed: Tensor | None) -> Tensor:
        """(P, N, dim) → (P, N, dim)."""
        placed = x + position
        out: Tensor = self.norm(x + self.self_attn(placed, placed, x, allowed))
        return out


class CrossAttentionLayer(nn.Module):
    """Post-norm attention of all rows' queries to one image."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.multihead_attn = Attention(dim, heads)
        self.norm = nn.LayerNorm(dim)

    def forward(self, x: Tensor, query_position: Tensor, memory: Tensor, placed: Tensor, allowed: Tensor) -> Tensor:
        """(P, Q, dim) looks at `memory` (M, dim) where `allowed` (P, Q, M) → (P, Q, dim).

        `placed` is the memory with its position. The rows are laid end to end: keys and values are projected and read
        once for all prompts.
        """
        query = (x + query_position).flatten(0, 1)[None]
        found = self.multihead_attn(query, placed[None], memory[None], allowed.flatten(0, 1)[None, None])
        out: Tensor = self.norm(x + found.view(x.shape))
        return out


class FeedForward(nn.Module):
    """Post-norm feed-forward."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.linear1 = nn.Linear(dim, hidden)
        self.linear2 = nn.Linear(hidden, dim)
        self.norm = nn.LayerNorm(dim)

    def forward(self, x: Tensor) -> Tensor:
        """(..., dim) → (..., dim)."""
        out: Tensor = self.norm(x + self.linear2(functional.relu(self.linear1(x))))
        return out


class MaskEmbed(nn.Module):
    """Three linear layers with ReLU between."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(dim, dim) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        """(..., dim) → (..., dim)."""
        first, second, third = self.layers
        out: Tensor = third(functional.relu(second(functional.relu(first(x)))))
        return out


class Predictor(nn.Module):
    """Queries, decoder layers, and the choice of the query whose class embedding is nearest to the prompt's."""

    def __init__(self, config: BiomedParseConfig) -> None:
        super().__init__()
        dim, layers = config.dim, range(config.decoder_layers)
        self.query_feat = nn.Embedding(config.queries, dim)
        self.query_embed = nn.Embedding(config.queries, dim)
        self.level_embed = nn.Embedding(N_SCALES, dim)
        self.transformer_cross_attention_layers = nn.ModuleList(CrossAttentionLayer(dim, config.heads) for _ in layers)
        self.transformer_self_attention_layers = nn.ModuleList(SelfAttentionLayer(dim, config.heads) for _ in layers)
        self.transformer_ffn_layers = nn.ModuleList(FeedForward(dim, config.feedforward) for _ in layers)
        self.decoder_norm = nn.LayerNorm(dim)
        self.mask_embed = MaskEmbed(dim)
        self.class_embed = nn.Parameter(torch.zeros(dim, dim))
        self.lang_encoder = LanguageEncoder(config)

    def forward(self, image: ImageFeatures, texts: Sequence[TextEmbedding], joint: bool) -> Chosen:
        """Answer every prompt of `texts` (at least one) for one image.

        Each prompt is a row of its own. With `joint` all prompts' tokens share one row, as in the original code: their
        masks then depend on each other.
        """
        rows = [torch.cat([text.tokens for text in texts])] if joint else [text.tokens for text in texts]
        tokens, allowed = self._padded(rows)
        hidden = self._refined(image, tokens, allowed)
        normed = self.decoder_norm(hidden)
        visual = _unit(normed @ self.class_embed)
        wanted = _unit(torch.stack([text.pooled for text in texts]))
        cosines = (visual @ wanted[:, :, None])[:, :, 0]  # (P, Q); a joint row serves all prompts
        similarity, query = cosines.max(1)
        row = torch.zeros_like(query) if joint else torch.arange(len(texts), device=query.device)
        return Chosen(embedding=self.mask_embed(normed[row, query]), query=query, similarity=similarity)

    def _padded(self, rows: list[Tensor]) -> tuple[Tensor, Tensor | None]:
        """Tokens (P, T, dim), and where keys may be looked at (P, 1, 1, Q + T); None when no row is padded."""
        tokens = nn.utils.rnn.pad_sequence(rows, batch_first=True)
        if all(len(row) == tokens.shape[1] for row in rows):
            return tokens, None
        lengths = torch.tensor([len(row) for row in rows], device=tokens.device)
        real = torch.arange(tokens.shape[1], device=tokens.device) < lengths[:, None]
        queries = real.new_ones((len(rows), self.query_feat.num_embeddings))
        return tokens, torch.cat((queries, real), dim=1)[:, None, None, :]

    def _refined(self, image: ImageFeatures, tokens: Tensor, allowed: Tensor | None) -> Tensor:
        """The queries (P, Q, dim) after all layers."""
        n_rows, n_queries = len(tokens), self.query_feat.num_embeddings
        queries: Tensor = self.query_feat.weight.expand(n_rows, -1, -1)
        query_position = self.query_embed.weight.expand(n_rows, -1, -1)
        # A token's position is its own embedding as it came from the text tower.
        positions = torch.cat((query_position, tokens), dim=1)
        memories = [_memory(m, level) for m, level in zip(image.scales, self.level_embed.weight, strict=True)]
        layers = zip(
            self.transformer_cross_attention_layers,
            self.transformer_self_attention_layers,
            self.transformer_ffn_layers,
            strict=True,
        )
        for n, (cross, self_attention, feed_forward) in enumerate(layers):
            scale = n % N_SCALES
            visible = self._visible(queries, image.small[scale])
            queries = cross(queries, query_position, *memories[scale], visible)
            both = self_attention(torch.cat((queries, tokens), dim=1), positions, allowed)
            both = feed_forward(both)
            queries, tokens = both[:, :n_queries], both[:, n_queries:]
        return queries

    def _visible(self, queries: Tensor, mask_features: Tensor) -> Tensor:
        """(P, Q, h · w): the pixels of each query's current mask; all of them where that mask is empty."""
        logits: Tensor = self.mask_embed(self.decoder_norm(queries)) @ mask_features.flatten(1)
        inside = logits.sigmoid() >= 0.5
        return inside.logical_or(inside.any(-1, keepdim=True).logical_not())


def _memory(features: Tensor, level: Tensor) -> tuple[Tensor, Tensor]:
    """The pixels of one scale (M, dim), without and with their position."""
    dim, height, width = features.shape
    memory = features.flatten(1).T + level
    return memory, memory + sine_position(height, width, dim, features.device)


def _unit(x: Tensor) -> Tensor:
    length: Tensor = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
    return x / (length + COSINE_EPS)
