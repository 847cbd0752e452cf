"""Measurements of gan_lab itself: its speed, and what its verdict notices (`verdict`, with the samples of `failures`).

Speed: candidates take turns in one process, and above all their ratios are of interest.

`timing` measures, describes and writes. `step`, `replicas`, `storage`, `startup` and `sweep` are values of the key
`what` and offer `benchmarks(folder, cfg, compose)`:

- `folder`: a folder for temporary files;
- `cfg`: the keys of conf/benchmark.yaml;
- `compose`: composes and checks the configuration of train.py with some overrides.

It returns a list of benchmarks, and further facts: by title, numbers by name.
"""
