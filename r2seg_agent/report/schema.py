"""Write the JSON schema of `report.json`: `python -m r2seg_agent.report.schema docs/develop/report.schema.json`."""

from __future__ import annotations

import sys
from pathlib import Path

from r2seg_agent.files import write_text_atomic
from r2seg_agent.report.writers import report_schema_text

if __name__ == "__main__":
    write_text_atomic(Path(sys.argv[1]), report_schema_text())
