"""The backbone's finest maps, res2 and res3, at given pixels of a slice: features of the image before any prompt."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from r2seg_agent.imaging.volume import FloatArray
from r2seg_agent.segment.biomedparse.model import PIXEL_MEAN, PIXEL_STD, BiomedParse
from r2seg_agent.segment.biomedparse.preprocess import Frame

NAMES = ("res2", "res3")


@torch.inference_mode()
def early_maps(model: BiomedParse, grey: NDArray[np.uint8], device: torch.device) -> tuple[Tensor, Tensor]:
    """(size, size) grey values as `network_input` makes them → the maps at strides 4 and 8, (1, C, h, w) float32.

    Only the first two of the four stages run, a fraction of the encoder's work; they are its own maps to the bit.
    """
    net = model.backbone
    image = torch.from_numpy(grey).to(device, torch.float32)[None, None].expand(1, 3, -1, -1)
    mean, std = (image.new_tensor(values).view(3, 1, 1) for values in (PIXEL_MEAN, PIXEL_STD))
    first, second = net.layers[0], net.layers[1]
    x = first(net.patch_embed((image - mean) / std))
    res2 = net.norm0(x).permute(0, 3, 1, 2)
    step = first.downsample
    assert isinstance(step, torch.nn.Module)  # only the last stage has none
    res3 = net.norm1(second(step(x.permute(0, 3, 1, 2)))).permute(0, 3, 1, 2)
    return res2.float(), res3.float()


def at_pixels(maps: tuple[Tensor, ...], frame: Frame, pixels: NDArray[np.int64]) -> FloatArray:
    """(k, sum of channels): every map between its cells bilinearly at `pixels` (k, 2), y and x of the slice."""
    centres = (pixels + np.asarray(frame.top_left) + 0.5) / frame.side
    places = torch.from_numpy((2.0 * centres - 1.0).astype(np.float32)).flip(1)[None, :, None]  # x before y
    found = [
        functional.grid_sample(map_, places.to(map_.device), align_corners=False, padding_mode="border")[0, :, :, 0]
        for map_ in maps
    ]
    out: FloatArray = torch.cat(found).mT.contiguous().cpu().numpy()
    return out
