"""Which remedy helped: any runs compared, with intervals, corrected tests and sentences no surer than the numbers.

`collect` finds and reads the runs, `factors` what differs between their configurations. `effects` asks the questions
that they can answer, with the tests of `resampling`. `sentences` and `notes` put that into words, `tables`, `charts`,
`panels` and `report` show it. `comparison` does one after the other. Neither torch nor Hydra is needed.
"""

from gan_lab.compare.comparison import compare, conclude
from gan_lab.compare.findings import Findings

__all__ = ["Findings", "compare", "conclude"]
