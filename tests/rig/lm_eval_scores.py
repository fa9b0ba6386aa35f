"""EleutherAI's lm-eval scores a task of its own through POST /v1/completions, and every likelihood that it was told is
held against Transformers' float32 log-softmax of the same weights.

    python tests/rig/lm_eval_scores.py PYTHON

PYTHON has lm-eval. The demo model is served by this checkout in float32. Ends with status 0 when all agree.
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
sys.path[:0] = [str(ROOT / "adapters"), str(ROOT / "tests")]
