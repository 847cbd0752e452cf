"""What others have published on mode-collapse benchmarks, and what samples of the data themselves score there.

The numbers are taken from the papers' own tables. Papers name the same benchmarks, but hardly two of them use the same
networks, budget and data: a plain GAN captures 1 of the ring's 8 modes in one paper and 6.3 in another. Therefore each
benchmark has a caution.
"""

from dataclasses import dataclass, replace

VEEGAN = "Srivastava et al. 2017 (VEEGAN), Table 1"
PACGAN = "Lin et al. 2018 (PacGAN), Table 1"
GDPP = "Elfeki et al. 2019 (GDPP), Table 1"
R3GAN = "Huang et al. 2024 (R3GAN), Table 3"


@dataclass(frozen=True)
class Score:
    """A published line of a table.

    Attributes:
        method: as the paper calls it.
        modes: number of captured modes.
        high_quality: share of high-quality samples, in [0, 1]; None where the paper has none.
        kl: KL divergence of the generated samples' modes from uniform shares, in nats; None where the paper has none.
        source: paper and table.
    """

    method: str
    modes: float
    high_quality: float | None
    kl: float | None
    source: str


@dataclass(frozen=True)
class Benchmark:
    """What is published about a dataset.

    Attributes:
        samples: number of samples that the scores are of.
        limit: what as many samples of the data themselves score.
        scores: published scores, the best one first.
        caution: how the experiments differ from each other and from ours.
    """

    samples: int
    limit: Score
    scores: tuple[Score, ...]
    caution: str


PLANE = (
    "Published numbers are means over 10 runs (PacGAN) or 5 (VEEGAN), after up to 400,000 steps, with other networks,"
    " latent vectors and optimisers than these runs. Their KL is from uniform shares, over the high-quality samples"
    " only, as here. A share of high-quality samples far above 98.9 % would be no merit: the modes would have shrunk."
)
STACKED = Benchmark(
    samples=26_000,
    limit=Score("data", 1000, None, 0.0236, "26,000 real samples; 0.0193 if all modes were equally frequent"),
    scores=(
        Score("R3GAN", 1000, None, 0.029, R3GAN),
        Score("MEG", 1000, None, 0.031, R3GAN),
        Score("PacDCGAN2", 1000, None, 0.06, "Lin et al. 2018 (PacGAN), Table 2"),
        Score("DDGAN", 1000, None, 0.071, R3GAN),
        Score("RpGAN + R1 + R2, small ResNet", 1000, None, 0.0781, "Huang et al. 2024 (R3GAN), Table 1"),
        Score("VAEBM", 1000, None, 0.087, R3GAN),
        Score("PresGAN", 1000, None, 0.12, R3GAN),
        Score("PacGAN", 992, None, 0.28, R3GAN),
        Score("WGAN-GP", 959, None, 0.73, R3GAN),
        Score("StyleGAN2", 940, None, 0.42, R3GAN),
        Score("VEEGAN", 150, None, 2.95, "Srivastava et al. 2017 (VEEGAN), Table 2"),
        Score("DCGAN", 99, None, 3.40, "Srivastava et al. 2017 (VEEGAN), Table 2"),
    ),
    caution=(
        "Published numbers are those of convolutional networks, R3GAN's with 20 million parameters each, trained on 10"
        " million images. VEEGAN's and PacGAN's numbers are for 26,000 samples; R3GAN's tables don't say for how many."
        " Data, classifier and budget differ from paper to paper. A classifier's errors add modes, so the number of"
        " modes with at least half of their expected count is safer."
    ),
)
BENCHMARKS = {
    "ring": Benchmark(
        samples=2_500,
        limit=Score("data", 8, 0.989, 0.0014, "2,500 samples of the data"),
        scores=(
            Score("PacGAN2", 7.9, 0.956, 0.07, PACGAN),
            Score("PacGAN3", 7.8, 0.977, 0.10, PACGAN),
            Score("PacGAN4", 7.8, 0.959, 0.07, PACGAN),
            Score("GDPP", 8.0, 0.717, None, GDPP),
            Score("VEEGAN", 8, 0.529, None, VEEGAN),
            Score("Unrolled GAN", 7.6, 0.356, None, VEEGAN),
            Score("WGAN-GP", 6.8, 0.596, None, GDPP),
            Score("GAN", 6.3, 0.982, 0.45, PACGAN),
            Score("GAN", 1, 0.993, None, VEEGAN),
        ),
        caution=PLANE + " In the public code of Unrolled GAN and of GDPP the ring has only 7 distinct modes.",
    ),
    "grid": Benchmark(
        samples=2_500,
        limit=Score("data", 25, 0.989, 0.0049, "2,500 samples of the data"),
        scores=(
            Score("PacGAN4", 24.8, 0.936, 0.04, PACGAN),
            Score("PacGAN3", 24.6, 0.942, 0.06, PACGAN),
            Score("PacGAN2", 23.8, 0.913, 0.13, PACGAN),
            Score("GDPP", 24.8, 0.685, None, GDPP),
            Score("VEEGAN", 24.6, 0.40, None, VEEGAN),
            Score("WGAN-GP", 24.2, 0.287, None, GDPP),
            Score("Unrolled GAN", 23.6, 0.16, None, VEEGAN),
            Score("GAN", 17.3, 0.948, 0.70, PACGAN),
            Score("GAN", 3.3, 0.005, None, VEEGAN),
        ),
        caution=PLANE,
    ),
    "stacked_mnist": STACKED,
    "stacked_digits": replace(
        STACKED,
        limit=Score("data", 1000, None, 0.0196, "26,000 real samples"),
        caution="Published numbers are for stacked MNIST with 28 or 32 pixels; these digits have 8. " + STACKED.caution,
    ),
}
