"""Which remedy helped: any runs compared, with intervals, corrected tests, and sentences no surer than the numbers.

`collect` finds and reads the runs, `settings` their configurations, and `factors` what differs between these.
`questions` says what the variants can answer, and `effects` answers it by the tests of `resampling`. `sentences` and
`notes` put the answers into words; `tables`, `charts`, `panels`, `snapshots` and `report` show them; `origin` says
where runs come from. `comparison` calls one after the other. `plan` says before a sweep what it can show. `run_page`
shows a single run; `pages` is what it shares with the report and with the page of a cure, `numbers` writes numbers as
texts. Nothing here imports torch or Hydra, and neither `plan` nor `run_page` pandas: a training imports them.
"""
