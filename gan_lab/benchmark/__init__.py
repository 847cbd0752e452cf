"""Speed measurements: candidates take turns in one process, and above all their ratios are of interest.

`timing` measures, describes and writes. Every other module is one value of the key `what` and offers
`benchmarks(folder, cfg, compose)`:

- `folder`: a folder for temporary files;
- `cfg`: the keys of conf/benchmark.yaml;
- `compose`: composes and checks the configuration of train.py with some overrides.

It returns a list of benchmarks, and further facts: by title, numbers by name.
"""
