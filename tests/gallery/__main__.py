"""`python tests/gallery` prints what catches each, in Markdown."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from gallery import GALLERY

print("| wrong implementation | caught by | cases that fail |\n|---|---|---|")
for wrong in GALLERY:
    print(f"| {wrong.description} | `{wrong.case}` | {len(wrong.failures())} |")
