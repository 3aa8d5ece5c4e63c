"""The layouts of a data set by name; nothing heavy is imported, the command line lists them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

LayoutName = Literal["table", "folder", "bids", "nnunet", "msd"]
LAYOUT_WORDS: Mapping[LayoutName, str] = {
    "table": "a table of cases",
    "folder": "a folder of scans",
    "bids": "BIDS",
    "nnunet": "nnU-Net raw data",
    "msd": "Medical Segmentation Decathlon",
}
