"""`voxtell`: a 3D network that is told in words what to segment. `segmenter` and `words` (what is asked) over `network`
(the seam to its package)."""

from typing import Final

NAME: Final = "voxtell"
