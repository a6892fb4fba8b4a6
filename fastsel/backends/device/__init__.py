"""What the device backends share: the primitives of reference.py over tensors on a device.

The work is that of an operations module, which has the operations of torch_ops.py under the same
names; fastsel/backends/torch.py names one. Shapes do not depend on what the device finds, so that a
round of greedy selection waits for it once: to read how many points were picked. Keys are lowered
by an atomic minimum, and applying a centre twice changes none: rows that have seen about as many
are refreshed together, from the first centre on that is new to one of them.
"""

from fastsel.backends.device.neighbours import Neighbours
from fastsel.backends.device.points import adopt, min_update
from fastsel.backends.device.pool import Pool
from fastsel.backends.device.state import State

__all__ = ["Neighbours", "Pool", "State", "adopt", "min_update"]
