"""Classes from folders and CSV files, and which images are held out."""

import codecs

import numpy as np
import pytest
from conftest import refused

from gan_lab.pack.archives import Member
from gan_lab.pack.labelling import assign_labels, classes_of, format_class_counts, hold_out


def members(*names: str) -> list[Member]:
    return [Member(name, None) for name in names]


def test_folders_are_classes():
    chosen, labels, notes = assign_labels(members("x/cat/1.png", "x/dog/1.png", "y/cat/2.png"), "folders")
    assert (len(chosen), labels, notes) == (3, ["cat", "dog", "cat"], [])
    with refused("conflict", "labels"):
        assign_labels(members("cat/1.png", "bare.png"), "folders")


def test_without_labels_folders_are_hinted_at():
    assert assign_labels(members("a/1.png", "a/2.png"), "none")[1:] == (None, [])
    assert "2 folders" in assign_labels(members("a/1.png", "b/2.png"), "none")[2][0]


def by_csv(tmp_path, content, *names):
    path = tmp_path / "labels.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return assign_labels(members(*names), str(path))


@pytest.mark.parametrize(
    "encode", [lambda t: t.encode(), lambda t: codecs.BOM_UTF8 + t.encode(), lambda t: t.encode("utf-16")]
)
def test_a_csv_names_files_with_or_without_folders(tmp_path, encode):
    text = 'file,label\r\nd/1.png,größe\r\n"2.png", "a, b"\r\n\r\nnowhere.png,x\r\n'.replace(', "', ',"')
    chosen, labels, notes = by_csv(tmp_path, encode(text), "d/1.png", "d/e/2.png", "3.png")
    assert [member.name for member in chosen] == ["d/1.png", "d/e/2.png"]
    assert labels == ["größe", "a, b"]
    assert [note.split()[0] for note in notes] == ["1", "1"], "one image without a label, one row without an image"
    assert "left out" in notes[0]
    assert "name no image" in notes[1]


@pytest.mark.parametrize(
    ("content", "code", "phrase"),
    [
        (b"", "missing", "no rows"),
        ("file,label\n", "missing", "no rows"),
        ("file;label\n1.png;a\n", "invalid", "row 2: 1 columns"),
        ("file,label,more\n1.png,a,b\n", "invalid", "row 2: 3 columns"),
        ("file,label\n1.png,\n", "invalid", "row 2"),
        ("file,label\n1.png,a\n1.png,b\n", "conflict", "row 3: 1.png"),
        ("file,label\nother.png,a\n", "conflict", "1.png"),
        ('file,label\n"1.png,a\n', "damaged", ""),
        ("file,label\n1.png,größe\n".encode("latin-1"), "damaged", "UTF-8"),
        (b"\xff\xfea", "damaged", "UTF-8"),
        (bytes(99), "missing", "columns"),
        ("file,label\n1.png," + "x" * 200_000, "damaged", ""),
        ("file,label\n2.png,a\n", "conflict", "2.png may be d/2.png or e/2.png"),
    ],
)
def test_a_bad_csv_is_refused_with_the_place_of_the_mistake(tmp_path, content, code, phrase):
    with refused(code, "labels") as error:
        by_csv(tmp_path, content, "1.png", "d/2.png", "e/2.png")
    assert phrase in str(error.value)
    assert "labels.csv" in str(error.value)


def test_labels_that_are_no_file(tmp_path):
    for name in ("folder", str(tmp_path), "/dev/zero"):
        with refused("missing", "labels"):
            assign_labels(members("1.png"), name)


def test_classes_are_numbered_in_natural_order():
    classes, numbers = classes_of(["10", "9", "cat", "9"])
    assert classes == ["9", "10", "cat"]
    assert numbers.tolist() == [1, 0, 2, 0]
    assert numbers.dtype == np.int64
    assert format_class_counts(["10", "9", "cat", "9"], max_classes=2) == "9 2, 10 1, …"


def test_every_class_is_held_out_by_the_same_share():
    labels = ["a"] * 100 + ["b"] * 20 + ["c"] * 2 + ["d"]
    names = [f"{n}.png" for n in range(len(labels))]
    held = hold_out(names, labels, 0.1)
    assert [sum(h for h, of in zip(held, labels, strict=True) if of == name) for name in "abcd"] == [10, 2, 1, 0]
    back = hold_out(names[::-1], labels[::-1], 0.1)
    assert (back[::-1] == held).all(), "whatever their order"
    assert 0 < sum(held[:50]) < 10, "and not the first ones"
    assert hold_out(names, None, 0.1).sum() == 12  # of 123
    assert hold_out(["a.png"], None, 0.9).sum() == 0
    assert hold_out(["a.png", "b.png"], None, 0.9).sum() == 1
