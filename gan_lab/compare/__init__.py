"""Which remedy helped: any runs compared, with intervals, corrected tests and sentences no surer than the numbers.

`collect` finds and reads the runs, `settings` their configurations, `factors` what differs between these; `questions`
says what these variants can answer, `effects` the answers, by the tests of `resampling`. `sentences` and `notes` put
them into words; `tables`, `charts`, `panels` and `report` show them; `origin` says where runs come from. `comparison`
does one after the other. All without torch and Hydra.
"""

from gan_lab.compare.comparison import compare, conclude
from gan_lab.compare.findings import Findings

__all__ = ["Findings", "compare", "conclude"]
