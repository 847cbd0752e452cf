"""What packed images look like: `scripts/pack.py` writes such HDF5 files, `dataset=images` reads them.

/           attributes: format = FORMAT; format_version = VERSION, a whole number; source, the name of what was packed;
            source_sha256; settings, the keys that shaped the pixels, as JSON; classes, a list of names, empty without
            labels; created_by, the version of gan_lab. No clock time: the same input gives the same file.
/train      what a GAN is trained on
/holdout    what it never sees
  images    (N, H, W, C) uint8, 0 to 255, C = 3 (RGB) or 1; contiguous, or chunked (1, H, W, C) and gzipped
  labels    (N,) int64, numbers of classes; only where they are known
  names     (N,) UTF-8, each image's name in the source
"""

FORMAT = "gan_lab images"
VERSION = 1
