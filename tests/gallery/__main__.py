"""`python tests/gallery` prints the table of defects for docs/gallery.md."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from gallery import GALLERY

print("| defect | caught by | cases that fail |\n|---|---|---|")
for defect in GALLERY:
    print(f"| {defect.description} | `{defect.case}` | {len(defect.failures())} |")
