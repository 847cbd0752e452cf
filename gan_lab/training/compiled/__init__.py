"""The step of fully connected networks as one compiled function: `coverage` what it can train, `step` the mathematics,
`engine` how a module is passed to it.
"""
