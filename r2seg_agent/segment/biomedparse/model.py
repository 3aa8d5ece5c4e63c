"""BiomedParse v1 (Zhao et al., Nature Methods 2025) for inference, in plain PyTorch.

Module names are those of the released checkpoint. Written from the published architecture; needs torch only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from r2seg_agent.errors import InputError
from r2seg_agent.segment.biomedparse.config import RELEASED, BiomedParseConfig
from r2seg_agent.segment.biomedparse.decoder import ImageFeatures, Predictor
from r2seg_agent.segment.biomedparse.focalnet import FocalNet
from r2seg_agent.segment.biomedparse.pixel_decoder import PixelDecoder
from r2seg_agent.segment.biomedparse.text import TextEmbedding
from r2seg_agent.segment.biomedparse.tokenizer import tokenize

PIXEL_MEAN = (123.675, 116.28, 103.53)
PIXEL_STD = (58.395, 57.12, 57.375)
STRIDE = 32


@dataclass(frozen=True, eq=False)
class Decoded:
    """Per prompt: mask `logits` (P, h, w) at stride 4, the `query` (P,) they come from, its `similarity` (P,)."""

    logits: Tensor
    query: Tensor
    similarity: Tensor


class Head(nn.Module):
    """Pixel decoder and predictor, under the name the checkpoint gives them."""

    def __init__(self, config: BiomedParseConfig) -> None:
        super().__init__()
        self.pixel_decoder = PixelDecoder(config)
        self.predictor = Predictor(config)


class BiomedParse(nn.Module):
    """Encode an image once, then decode any number of prompts."""

    def __init__(self, config: BiomedParseConfig = RELEASED) -> None:
        super().__init__()
        self.config = config
        self.backbone = FocalNet(config)
        self.sem_seg_head = Head(config)

    @torch.inference_mode()
    def backbone_maps(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """(B, 3, H, W), RGB 0–255 → maps at strides 4, 8, 16, 32 (text-independent).

        As in the original, sides that are no multiples of 32 are filled up to the right and below with the mean pixel;
        maps and masks then cover the filled image.
        """
        if images.ndim != 4 or images.shape[1] != 3:
            raise InputError(f"BiomedParse takes images (batch, 3, height, width); {tuple(images.shape)} came.")
        mean, std = (images.new_tensor(v, dtype=torch.float32).view(3, 1, 1) for v in (PIXEL_MEAN, PIXEL_STD))
        below, right = (-side % STRIDE for side in images.shape[2:])
        filled = functional.pad((images - mean) / std, (0, right, 0, below))
        maps: tuple[Tensor, Tensor, Tensor, Tensor] = self.backbone(filled)
        return maps

    @torch.inference_mode()
    def encode(self, images: Tensor) -> list[ImageFeatures]:
        """All that does not depend on the prompt, per image of (B, 3, H, W), RGB 0–255."""
        return self.decoder_features(self.backbone_maps(images))

    @torch.inference_mode()
    def decoder_features(self, maps: tuple[Tensor, Tensor, Tensor, Tensor]) -> list[ImageFeatures]:
        """What the decoder reads, per image, from the backbone's maps."""
        finest, scales = self.sem_seg_head.pixel_decoder(maps)
        small = self.sem_seg_head.pixel_decoder.small_mask_features(finest)
        return [
            ImageFeatures(
                finest=finest[n],
                scales=(scales[0][n], scales[1][n], scales[2][n]),
                small=(small[0][n], small[1][n], small[2][n]),
            )
            for n in range(len(finest))
        ]

    @torch.inference_mode()
    def embed(self, prompt: str) -> TextEmbedding:
        """The prompt's tokens and their end token through the text tower."""
        embedding: TextEmbedding = self.sem_seg_head.predictor.lang_encoder(tokenize(prompt, self.config.context))
        return embedding

    @torch.inference_mode()
    def decode(self, image: ImageFeatures, texts: Sequence[TextEmbedding], *, joint: bool = False) -> Decoded:
        """Masks of one encoded image for one or more prompts; see `Predictor.forward` for `joint`."""
        chosen = self.sem_seg_head.predictor(image, texts, joint)
        logits = self.sem_seg_head.pixel_decoder.mask_logits(image.finest, chosen.embedding)
        return Decoded(logits=logits, query=chosen.query, similarity=chosen.similarity)

    def predict(self, image: Tensor, prompts: Sequence[str], *, joint: bool = False) -> Decoded:
        """Encode `image` (3, H, W), RGB 0–255, and decode `prompts` (at least one)."""
        return self.decode(self.encode(image[None])[0], [self.embed(prompt) for prompt in prompts], joint=joint)
