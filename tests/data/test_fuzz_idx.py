"""Any IDX file of MNIST is read or refused, whatever its content."""

import gzip
import struct
import tracemalloc

from conftest import refused
from fuzzing import BITS, cases, digests, flip, needs_alarm, temporary_folder
from hypothesis import given
from hypothesis import strategies as st

from gan_lab.core.errors import LabError
from gan_lab.data import images
from gan_lab.data.dataset import Dataset

pytestmark = needs_alarm

NAMES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")


def _idx(name: str) -> bytes:
    """Returns a file of 12 images or of 12 labels."""
    if "images" in name:
        shape = (12, 28, 28)
        values = bytes(number * 7 % 256 for number in range(12 * 28 * 28))
    else:
        shape = (12,)
        values = bytes(number % 10 for number in range(12))
    return bytes([0, 0, 8, len(shape)]) + struct.pack(f">{len(shape)}I", *shape) + values


FILES = {name: _idx(name) for name in NAMES}


def _cut(content: bytes, data: st.DataObject) -> bytes:
    return content[: data.draw(st.integers(0, len(content) - 1))]


def _damaged(content: bytes, kind: str, data: st.DataObject) -> bytes:
    """Damages the content of an IDX file before it is packed."""
    if kind == "cut":
        return _cut(content, data)
    if kind == "flip":
        return flip(content[:16], data.draw(BITS)) + content[16:]
    if kind == "label":
        return content[:-1] + b"\xc8"
    if kind == "header":
        axes = content[3]
        sizes = st.sampled_from([0, 1, 2**16, 2**31, 2**32 - 1])
        shape = data.draw(st.lists(sizes, min_size=axes, max_size=axes))
        return content[:4] + struct.pack(f">{axes}I", *shape) + content[4 + 4 * axes :]
    return content


def _damaged_gzip(content: bytes, kind: str, data: st.DataObject) -> bytes:
    """Packs the content and damages the packed file."""
    packed = gzip.compress(content, mtime=0)
    if kind == "cut gzip":
        return _cut(packed, data)
    if kind == "flip gzip":
        return flip(packed, data.draw(BITS))
    return packed


def _assert_valid(dataset: Dataset) -> None:
    for part in (dataset.train, dataset.heldout):
        assert len(part) == len(part.labels) > 0
        assert part.shape == (1, 28, 28)
        assert 0 <= part.labels.min() <= part.labels.max() <= 9


@cases("idx")
@given(st.data())
def test_any_idx_file_is_read_or_refused(data):
    name = data.draw(st.sampled_from(NAMES))
    packed = data.draw(st.booleans())
    kind = data.draw(st.sampled_from(["cut", "flip", "header", "label", "cut gzip", "flip gzip"]))
    file_name = name
    content = _damaged(FILES[name], kind, data)
    if packed or "gzip" in kind:
        file_name = f"{name}.gz"
        content = _damaged_gzip(content, kind, data)
    with temporary_folder() as cwd:
        raw = cwd / "MNIST" / "raw"
        raw.mkdir(parents=True)
        for other_name in set(NAMES) - {name}:
            (raw / other_name).write_bytes(FILES[other_name])
        (raw / file_name).write_bytes(content)
        before = digests(cwd)
        try:
            dataset = images.mnist(str(cwd))
        except LabError as error:
            assert error.code == "damaged"
            assert error.key.startswith(name.partition("-")[0])
        else:
            _assert_valid(dataset)
        assert digests(cwd) == before


def test_a_file_that_unpacks_to_more_than_its_header_says_takes_no_memory(tmp_path):
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    with gzip.open(raw / f"{NAMES[0]}.gz", "wb", compresslevel=1) as file:
        file.write(FILES[NAMES[0]])
        for _ in range(50):
            file.write(bytes(2**20))
    tracemalloc.start()
    try:
        with refused("damaged", f"{NAMES[0]}.gz"):
            images.mnist(str(tmp_path))
        assert tracemalloc.get_traced_memory()[1] < 10 * 2**20
    finally:
        tracemalloc.stop()
