"""The layout of packed images: `scripts/pack.py` writes such HDF5 files, `dataset=images` reads them.

/           attributes: format = FORMAT; format_version = VERSION, a whole number; source, the name of what was packed;
            source_sha256; settings, the keys that shaped the pixels, as JSON; classes, a list of names as JSON, empty
            without labels; created_by, the version of gan_lab. Each but the version is one text. There is no clock
            time: the same input gives the same file.
/train      what a GAN is trained on
/holdout    what it never sees
  images    (N, H, W, C) uint8, 0 to 255, C = 3 (RGB) or 1; contiguous, or chunked (1, H, W, C) and gzipped
  labels    (N,) int64, numbers of classes; contiguous; only where they are known
  names     (N,) UTF-8, each image's name in the source; for people, training doesn't read it

All of it is in the file itself: no links, no external storage, no virtual datasets, no other filters.
Version 1 had the classes as an array of names.
"""

FORMAT = "gan_lab images"
VERSION = 2

# Bounds, so that a stranger's file can't ask for more memory than there is.
MAX_PIXELS = 89_478_485  # of an image: where Pillow warns of a decompression bomb; here it is an error before decoding
MAX_IMAGES = 2**27  # of a part: their labels take a GiB
MAX_CLASSES = 2**16  # CelebA has 10,177 people
MAX_NAME = 200  # characters of a class's name
MAX_CLASSES_TEXT = 2**24  # characters of all names as JSON
