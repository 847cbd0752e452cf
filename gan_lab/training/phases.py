"""The names of a step's phases, for people; see `gan_lab.training.gan_module.GANModule`."""

PHASE_D_REAL = "phase (1), D on real data"
PHASE_D_FAKE = "phase (2), D on fakes"
PHASE_D_JOINT = "phases (1) and (2), D on real data and on fakes"
PHASE_G = "phase (3), G"
