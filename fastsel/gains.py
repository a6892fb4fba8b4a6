"""The order of candidates by gain: marks for those that come last or not at all."""

from __future__ import annotations

import numpy as np

# A selected point, or one that is too near to be selected.
NEVER = int(np.iinfo(np.int64).min)
# A duplicate of a selected point, whose gain is minus infinity.
LAST = NEVER + 1
