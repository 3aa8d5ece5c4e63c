"""`make picture`: the README's picture, from the demo's run on a scan whose licence allows it (Apache-2.0)."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from PIL import Image

WIDTH = 1400


def main() -> int:
    """Shrink the overlay of the demo case `abdomen-synthetic`; in all its colours, since a palette loses thin lines."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--overlay", type=Path, default=Path("demo/abdomen-synthetic/overlay.png"))
    parser.add_argument("--out", type=Path, default=Path("docs/images/find.png"))
    given = parser.parse_args()
    with Image.open(given.overlay) as overlay:
        height = round(overlay.height * WIDTH / overlay.width)
        small = overlay.convert("RGB").resize((WIDTH, height), Image.Resampling.LANCZOS)
    small.save(given.out, optimize=True)
    print(f"{given.out}: {WIDTH}×{height}, {given.out.stat().st_size // 1024} KiB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
