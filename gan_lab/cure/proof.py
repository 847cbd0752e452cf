"""The proof: one test, planned beforehand, of winner against patient on seeds that had no part in the choice."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gan_lab.comparison.numbers import format_estimate, format_p
from gan_lab.comparison.resampling import ALPHA, mean_difference, permutation_p, welch_interval
from gan_lab.cure.plan import METRIC


@dataclass(frozen=True)
class Proof:
    """The answer of the test.

    Attributes:
        patient: the primary metric of each of the patient's trainings.
        cured: that of each training with the change.
        difference: of the means, cured − patient.
        low: lower end of its 95 % interval (Welch's); NaN without any spread.
        high: its upper end.
        p: two-sided, of a permutation test.
    """

    patient: list[float]
    cured: list[float]
    difference: float
    low: float
    high: float
    p: float

    @property
    def helped(self) -> bool:
        """Whether the change is shown to be for the better."""
        return self.p <= ALPHA and self.difference > 0

    @property
    def harmed(self) -> bool:
        """Whether it is shown to be for the worse."""
        return self.p <= ALPHA and self.difference < 0

    def sentence(self, name: str) -> str:
        """Returns the answer in one sentence.

        Args:
            name: of the change.
        """
        before = sum(self.patient) / len(self.patient)
        after = sum(self.cured) / len(self.cured)
        size = format_estimate(self.difference, digits=2, signed=True)
        if self.low == self.low:
            size = format_estimate(self.difference, self.low, self.high, digits=2, signed=True)
        seeds = f"{len(self.patient)} fresh seeds each"
        if len(self.patient) != len(self.cured):
            seeds = f"{len(self.patient)} and {len(self.cured)} fresh seeds"
        numbers = f"{METRIC} {before:.2f} → {after:.2f}, {size}, {format_p(self.p)}, {seeds}"
        if self.helped:
            return f"{name} helped ({numbers})."
        if self.harmed:
            return f"Nothing within the budget helped; the best of the race, {name}, made it worse ({numbers})."
        return f"Nothing within the budget was shown to help; the best try was {name} ({numbers})."


def prove(patient: Sequence[float], cured: Sequence[float]) -> Proof:
    """Tests the only hypothesis: that the change makes a difference in the primary metric.

    Args:
        patient: the metric of each training without the change, at least two.
        cured: the same with it.
    """
    strata = [[np.array([patient]), np.array([cured])]]
    low, high = welch_interval(strata)[:, 0]
    return Proof(
        patient=list(patient),
        cured=list(cured),
        difference=float(mean_difference(strata)[0]),
        low=float(low),
        high=float(high),
        p=float(permutation_p(strata)[0]),
    )
