"""How images lie in a packed HDF5 file: what `scripts/pack.py` writes and `gan_lab.data.hdf5` reads.

- Root attributes: `format` and `format_version` (below), `source` and `source_sha256` (what was packed), `settings`
  (how, JSON), `classes` (a name for each label, maybe none), `created_by`.
- Groups `/train` and `/holdout`, each with `images`, uint8 `(N, H, W, C)` with C = 1 or 3: contiguous and
  uncompressed, so that image i lies at the dataset's offset + i · H · W · C, or gzipped in chunks `(1, H, W, C)`.
  Where they are known, `labels`, int64 `(N,)`, and `names` of the files, UTF-8 `(N,)`.
"""

FORMAT = "gan_lab images"
VERSION = 1
