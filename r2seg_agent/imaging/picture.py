"""2D pictures (PNG, JPEG, TIFF), grey or in colour, by Pillow: one slice, no physical spacing."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from r2seg_agent.errors import InputError
from r2seg_agent.imaging import checks, files
from r2seg_agent.imaging.colour import is_coloured, opaque
from r2seg_agent.imaging.geometry import Geometry
from r2seg_agent.imaging.memory import check_memory

MAX_PICTURE_PIXELS = 1 << 28
"""268 million pixels (16 384²), far beyond any radiograph; a larger one is refused before it is unpacked."""
_LARGEST_PIXEL_BYTES = 4
_EXIF_ORIENTATION = 274


def read_picture(
    path: Path,
    what: str = "image",
    note: Callable[[str], None] = lambda text: None,
    *,
    indexed: bool = False,
    colours: bool = False,
) -> tuple[NDArray[Any], Geometry]:
    """Pixels (1, y, x) as uint8, uint16, int32 or float32, and a grid in pixels (`known_spacing` "none").

    Colour files whose channels are equal count as grey; an alpha channel must be fully opaque. `indexed`: a palette
    picture gives its indices, not its colours (how label maps are often saved). `colours`: a picture in real colour
    gives (1, y, x, 3) uint8; without it, it is refused.

    Raises:
        InputError: not a picture, truncated, several pages, transparency, or colour where none is allowed.
    """
    from PIL import Image, UnidentifiedImageError

    head = files.read_head(path, what)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            with Image.open(path) as image:
                _check_size(path, what, image.size, getattr(image, "n_frames", 1))
                image.load()
                orientation = image.getexif().get(_EXIF_ORIENTATION, 1)
                mode = "L" if indexed and image.mode == "P" else image.mode
                array = _pixels(path, what, mode, image, colours=colours)
        except InputError:
            raise
        except UnidentifiedImageError:
            raise InputError(
                f"The {what} `{path}` is not a readable picture: it looks like {files.describe_content(head)}. "
                f"{files.ALLOWED}",
                "Give the file its true suffix, or save it as 8- or 16-bit grey PNG.",
            ) from None
        except PermissionError as error:
            with files.readable(path, what):
                raise error
        except Exception as error:  # Pillow's decoders raise nearly anything on damaged data
            raise files.truncated(path, what, files.last_sentence(str(error)).rstrip(".")) from None
    if orientation not in (0, 1):
        note("The picture asks viewers to rotate it (EXIF); it is used as stored, and so are masks for it.")
    geometry = checks.checked_geometry(
        path, what, shape=array.shape[:3], spacing_zyx_mm=(1.0, 1.0, 1.0), known_spacing="none"
    )
    return array, geometry


def _check_size(path: Path, what: str, size: tuple[int, int], n_frames: int) -> None:
    if size[0] * size[1] > MAX_PICTURE_PIXELS:
        raise InputError(
            f"The {what} `{path}` has {size[0]} × {size[1]} pixels; at most {MAX_PICTURE_PIXELS:,} are allowed.",
            "Cut out the region of interest.",
        )
    check_memory(path, what, 2 * _LARGEST_PIXEL_BYTES * size[0] * size[1])
    if n_frames > 1:
        raise InputError(
            f"The {what} `{path}` has {n_frames} pages or frames; one 2D picture is needed.",
            "Save the page as its own file, or a stack of slices as NIfTI, NRRD or MetaImage with its spacing.",
        )


def _pixels(path: Path, what: str, mode: str, image: Any, *, colours: bool) -> NDArray[Any]:
    if mode in ("1", "L"):
        pixels = np.asarray(image.convert("L") if mode == "1" else image)
    elif mode == "I;16" or mode.startswith("I;16"):
        pixels = np.asarray(image).astype(np.uint16)
    elif mode == "I":
        pixels = np.asarray(image).astype(np.int32)
    elif mode == "F":
        pixels = np.asarray(image).astype(np.float32)
    elif mode in ("LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX"):
        rgba = np.asarray(image.convert("RGBA"))
        rgb = rgba[..., :3] if mode == "RGBX" else opaque(path, what, rgba)
        coloured = is_coloured(rgb)
        if coloured and not colours:
            raise InputError(
                f"The {what} `{path}` is a colour (RGB) picture; one grey channel is needed.",
                "Save it as 8- or 16-bit grey; of a mask, the numbers of its labels.",
            )
        pixels = rgb if coloured else rgb[..., 0]
    else:
        raise InputError(
            f"The {what} `{path}` is a picture in colour mode {mode}; grey, RGB or RGBA is needed.",
            "Save it as 8- or 16-bit grey, or as RGB.",
        )
    return np.array(pixels[np.newaxis], copy=True)
