"""How fast is it? Figures, and above all ratios, of contestants that take turns in one run.

`contest` is the frame. Every other module is one value of `what` and offers `contests(folder, asked, training)`, which
gives a list of contests and further facts: by title, numbers by name.

- `folder`: where files may go that are gone afterwards;
- `asked`: the keys of conf/benchmark.yaml;
- `training`: gives the checked configuration of train.py with some overrides.
"""
