"""From the grey values of one slice to the network's square 8-bit input, and its masks back onto the slice.

The steps and constants are those of BiomedParse's own inference code: window (CT) or 0.5–99.5 percentiles of the
pixels > 0 (everything else), min–max to 0 … 255, zero padding to a centred square, cubic spline to the input size with
anti-aliasing, cut to 8 bits.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from r2seg_agent.imaging.volume import FloatArray, Modality
from r2seg_agent.imaging.window import WINDOWS, percentile_window
from r2seg_agent.reason.concepts import windows_hu
from r2seg_agent.segment.protocol import Prompt

if TYPE_CHECKING:
    import torch

Window = tuple[float, float]

MODALITY_WORDS: dict[Modality, str] = {"CT": "CT", "MR": "MRI", "US": "ultrasound", "XR": "X-ray"}
"""The words of the training prompts. BiomedParse never saw PET."""

_ABDOMEN = ("adrenal gland", "duodenum", "gallbladder", "kidney", "retroperitoneum", "small bowel", "spleen", "stomach")
_PELVIS = ("bladder", "cervix", "ovary", "prostate", "rectum", "seminal vesicle", "uterus", "vagina")
_CHEST = ("breast", "chest wall", "esophagus", "heart", "mediastinum", "thymus", "thyroid")
_NECK = ("hypopharynx", "larynx", "nasal cavity", "nasopharynx", "neck", "oral cavity", "orbit", "oropharynx")
_GLANDS = ("parotid gland", "submandibular gland", "tongue", "eye", "optic nerve")
_BONE = ("bone", "mandible", "rib", "sacrum", "skull")
SITE_WINDOWS: Mapping[str, str] = MappingProxyType(
    {
        "chest": "lung",
        "thorax": "lung",
        "airways": "lung",
        "brain": "brain",
        "head": "brain",
        "spine": "spine",
        **dict.fromkeys(_ABDOMEN, "abdomen"),
        **dict.fromkeys(_PELVIS, "pelvis"),
        **dict.fromkeys(_CHEST, "mediastinum"),
        **dict.fromkeys((*_NECK, *_GLANDS), "head_neck"),
        **dict.fromkeys(_BONE, "bone"),
        "body": "soft_tissue",
        "soft tissue": "soft_tissue",
    }
)
"""Names of windows (`reason.concepts.windows_hu`) for CT sites beyond the original's abdomen, lung, pelvis, liver,
colon and pancreas. BiomedParse was not trained on CT of most of them: what it marks there is for Reject to judge."""


@dataclass(frozen=True)
class Frame:
    """Where a slice of `shape` (y, x) lies in its padded square of `side` pixels: its first pixel is at `top_left`."""

    shape: tuple[int, int]
    side: int
    top_left: tuple[int, int]


def frame_of(shape: tuple[int, int]) -> Frame:
    """The smallest square around a slice, the slice in its centre."""
    side = max(shape)
    return Frame(shape, side, ((side - shape[0]) // 2, (side - shape[1]) // 2))


def prompt_text(target: str, site: str, modality: Modality) -> str:
    """The sentence BiomedParse was trained with, "{target} in {site} {modality}": "tumor in liver CT"."""
    return f"{target} in {site} {MODALITY_WORDS.get(modality, '')}".strip()


def words_of(prompt: Prompt) -> str:
    """The text of a prompt, else the sentence of its target, site and modality."""
    return prompt.text.strip() or prompt_text(prompt.target, prompt.site, prompt.modality)


def target_of(prompt: Prompt) -> str:
    """What is asked for, in the words of the training prompts: what stands before "in"."""
    return words_of(prompt).split(" in ")[0]


def window_of(prompt: Prompt) -> Window | None:
    """The grey window of a prompt: the plan's own, else on CT in HU that of its site, else None (percentiles).

    The original has windows for six sites and refuses all others. Here a further site gets the original's window of
    the region it lies in, or the usual radiological window of its tissue (`SITE_WINDOWS`); an unknown one the
    abdomen's, which shows all soft tissue.
    """
    if prompt.window is not None or prompt.modality != "CT" or not prompt.hounsfield:
        return prompt.window
    site = prompt.site.lower()
    return windows_hu()[SITE_WINDOWS.get(site, site if site in WINDOWS else "abdomen")]


def network_input(pixels: NDArray[Any], window: Window | None, size: int) -> NDArray[np.uint8]:
    """(y, x) grey values → (size, size) 8-bit, as the network sees them.

    Pictures of 8 bits without a window (ultrasound, radiographs, photographs) are taken as they are, as the original
    takes image files.
    """
    picture = window is None and pixels.dtype == np.uint8
    grey = pixels.astype(np.float64) if picture else _grey(pixels, window)
    return _resized(_squared(grey), size).astype(np.uint8)


def _grey(pixels: NDArray[Any], window: Window | None) -> NDArray[np.float64]:
    low, high = percentile_window(pixels) if window is None else window
    clipped = np.clip(pixels.astype(np.float64), low, high)
    least, most = clipped.min(), clipped.max()
    if most == least:
        return np.zeros_like(clipped)
    grey: NDArray[np.float64] = (clipped - least) / (most - least) * 255.0
    return grey


def _squared(grey: NDArray[np.float64]) -> NDArray[np.float64]:
    frame = frame_of((grey.shape[0], grey.shape[1]))
    out = np.zeros((frame.side, frame.side))
    top, left = frame.top_left
    out[top : top + grey.shape[0], left : left + grey.shape[1]] = grey
    return out


def _resized(square: NDArray[np.float64], size: int) -> NDArray[np.float64]:
    """Equal to `skimage.transform.resize(order=3, mode="constant", anti_aliasing=True)`, the original's resize."""
    from scipy import ndimage

    side = square.shape[0]
    smoothed = ndimage.gaussian_filter(square, max(0.0, (side / size - 1) / 2), mode="grid-constant")
    resized = ndimage.zoom(smoothed, size / side, order=3, mode="grid-constant", grid_mode=True)
    return np.clip(resized, square.min(), square.max())


def slice_probabilities(logits: torch.Tensor, frame: Frame) -> FloatArray:
    """Mask logits (P, h, w) of the padded square → probabilities (P, y, x) float32 on the slice.

    Logits are resized bilinearly, then squashed, as in the original; averaging when the slice has fewer pixels.
    """
    import torch
    from torch.nn import functional

    shrinks = frame.side < logits.shape[-1]
    square = functional.interpolate(
        logits[None].float(), size=(frame.side, frame.side), mode="bilinear", align_corners=False, antialias=shrinks
    )[0]
    (top, left), (height, width) = frame.top_left, frame.shape
    cut = square[:, top : top + height, left : left + width]
    probabilities: FloatArray = torch.sigmoid(cut).cpu().numpy()
    return probabilities
