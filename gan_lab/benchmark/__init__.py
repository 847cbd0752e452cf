"""How fast is it? Figures, and above all ratios, of contestants that take turns in one run.

`contest` is the frame; every other module is one value of `what` and offers
`contests(folder, settings) -> (list[Contest], facts)`.
"""
