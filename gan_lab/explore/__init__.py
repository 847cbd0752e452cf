"""Latent vector arithmetic (S13): grids, interpolations, closed walks, sums, differences and products.

Every latent vector has a seed: vector k is drawn by the random number generator with seed k, whatever the run, so that
two runs with the same latent distribution can be compared. `a=five` stands for the first vector, in the order of the
seeds, whose sample the label classifier classifies as a five.

The last components of a conditional GAN's latent vectors are the target class, one-hot. A grid then has one row per
class; interpolations and walks also interpolate between the target classes; arithmetic needs two vectors of the same
target class and leaves the class as it is.
"""

from gan_lab.explore.command import explore
from gan_lab.explore.request import Request

__all__ = ["Request", "explore"]
