"""`nninteractive`: a promptable 3D network. `segmenter` (what is asked) over `session` (the seam to its package)."""

from typing import Final

NAME: Final = "nninteractive"
