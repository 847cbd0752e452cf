"""The four checks of a configuration before its training (S6–S9).

1. The data: their number, range, duplicates and classes.
2. D against noise: whether a fresh D learns to separate real samples from uniform noise.
3. The untrained G: whether its samples have the range of the data and depend on the latent vector.
4. The objective: whether each phase of one training step trains its own network and no other.

The checks train networks of their own and use random streams of their own: a training after them is bit for bit the
same as without.
"""

from gan_lab.preflight.report import Check, describe, worst_status, write
from gan_lab.preflight.run import preflight, run_checks

__all__ = ["Check", "describe", "preflight", "run_checks", "worst_status", "write"]
