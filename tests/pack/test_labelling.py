"""Classes from folders and CSV files, and which images are held out."""

import codecs

import numpy as np
import pytest
from conftest import refused

from gan_lab.pack import labelling
from gan_lab.pack.archives import Member
from gan_lab.pack.labelling import assign_labels, classes_of, format_class_counts, hold_out


def members(*names: str) -> list[Member]:
    return [Member(name, None) for name in names]


def test_folders_are_classes():
    chosen, labels, notes = assign_labels(members("x/cat/1.png", "x/dog/1.png", "y/cat/2.png"), "folders")
    assert (len(chosen), labels) == (3, ["cat", "dog", "cat"])
    assert notes == ["Classes are folders: x/cat/1.png is of class cat."]
    assert assign_labels(members("cat/1.png", "dog/1.png"), "folders")[1:] == (["cat", "dog"], [])


@pytest.mark.parametrize(
    "labels_by_name",
    [
        # Tiny ImageNet; its validation and test images need a table
        {
            "tiny-imagenet-200/train/n01443537/images/n01443537_0.JPEG": "n01443537",
            "tiny-imagenet-200/train/n01629819/images/n01629819_0.JPEG": "n01629819",
            "tiny-imagenet-200/val/images/val_0.JPEG": None,
            "tiny-imagenet-200/test/images/test_0.JPEG": None,
        },
        {"train/cat/1.png": "cat", "train/dog/1.png": "dog", "val/cat/2.png": "cat", "test/3.png": None},
        {"cat/train/1.png": "cat", "cat/test/1.png": "cat", "dog/train/1.png": "dog"},
        {"flowers/rose/1.png": "rose", "flowers/tulip/1.png": "tulip", "flowers/cover.png": None},
        {"rose/1.png": "rose", "tulip/1.png": "tulip", "cover.png": None},
        {"data/set/cat/1.png": "cat", "data/set/dog/1.png": "dog"},
        {"a/cat/1.png": "a", "b/cat/1.png": "b"},
        {"data/cat/1.png": "cat", "data/cat/2.png": "cat"},
        {"cat/images/1.png": "cat", "cat/images/2.png": "cat"},
        {"animals/cat/1.png": "cat", "animals/dog/1.png": "dog", "plants/rose/1.png": "rose"},
        # Intel's image classification, brain tumours, COCO, a Korean school
        {"seg_train/seg_train/sea/1.jpg": "sea", "seg_test/seg_test/street/1.jpg": "street", "seg_pred/1.jpg": None},
        {"Training/glioma/1.jpg": "glioma", "Testing/notumor/1.jpg": "notumor"},
        {"train2017/cat/1.jpg": "cat", "val2017/dog/1.jpg": "dog"},
        {"학습용 데이터/고양이/1.png": "고양이", "검증/강아지/1.png": "강아지"},
        # classes that only look like other things
        {"valid/1.png": "valid", "invalid/1.png": "invalid"},
        {"train/images/1.png": "images", "train/text/1.png": "text"},
        {"train/1.png": "train", "bus/1.png": "bus"},
        {"../x/cat/1.png": "cat", "../x/dog/1.png": "dog"},
        {"/cat/1.png": "cat", "/dog/1.png": "dog"},
        {"C:/cat/1.png": "cat", "C:/dog/1.png": "dog"},
        {"caf\u00e9/1.png": "caf\u00e9", "cafe\u0301/1.png": "caf\u00e9"},
    ],
)
def test_the_folder_that_tells_classes_apart(labels_by_name):
    chosen, labels, notes = assign_labels(members(*labels_by_name), "folders")
    assert {member.name: label for member, label in zip(chosen, labels, strict=True)} == {
        name: label for name, label in labels_by_name.items() if label is not None
    }
    bare = sum(label is None for label in labels_by_name.values())
    assert bare == sum(int(note.split()[0]) for note in notes if "in no folder of a class" in note)


@pytest.mark.parametrize("names", [["1.png", "2.png"], ["train/1.png", "test/2.png"], ["../1.png"], ["C:/1.png"]])
def test_folders_that_are_no_classes(names):
    with refused("conflict", "labels"):
        assign_labels(members(*names), "folders")


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
        ("file,label\n1.png,a,b\n", "invalid", "row 2: 3 columns"),
        ("file,label\n1.png,\n", "invalid", "row 2"),
        ("file,label\n1.png,a\n1.png,b\n", "conflict", "row 3: 1.png"),
        ("file,label\nother.png,a\n", "conflict", "1.png"),
        ('file,label\n"1.png,a\n', "damaged", ""),
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


@pytest.mark.parametrize(
    ("rows", "names", "labels"),
    [
        # without the suffix, as Kaggle's ids; another suffix; in capitals
        ("1,cat\n2,dog\n", ["d/1.png", "d/2.png"], ["cat", "dog"]),
        ("1.jpg,cat\n2.jpg,dog\n", ["1.png", "2.PNG"], ["cat", "dog"]),
        ("1.jpg,cat\n2.jpg,dog\n", ["1.JPG", "2.JPG"], ["cat", "dog"]),
        # absolute paths, and those of Windows
        ("/kaggle/input/d/1.png,cat\n/kaggle/input/d/2.png,dog\n", ["d/1.png", "d/2.png"], ["cat", "dog"]),
        ("C:\\d\\1.png,cat\nC:\\d\\2.png,dog\n", ["1.png", "2.png"], ["cat", "dog"]),
        # a name in NFD in the source, in NFC in the table, and the reverse
        ("caf\u00e9.png,cat\n", ["cafe\u0301.png"], ["cat"]),
        ("cafe\u0301.png,cat\n", ["caf\u00e9.png"], ["cat"]),
        ("\uace0\uc591\uc774.png,cat\n", ["\u1100\u1169\u110b\u1163\u11bc\u110b\u1175.png"], ["cat"]),
        # both forms in the source are two images of the same name
        ("caf\u00e9.png,cat\n", ["cafe\u0301.png", "caf\u00e9.png"], ["cat", "cat"]),
        # Oxford's pets: names with labels in them, in a list with spaces
        ("Abyssinian_1 1 1 1\nyorkshire_2 37 2 25\n", ["Abyssinian_1.jpg", "yorkshire_2.jpg"], ["1", "37"]),
    ],
)
def test_rows_find_their_images(tmp_path, rows, names, labels):
    (tmp_path / "labels.csv").write_text(rows, encoding="utf-8")
    column = "2" if "Abyssinian" in rows else None
    chosen, found, _ = assign_labels(members(*names), str(tmp_path / "labels.csv"), column)
    assert [member.name for member in chosen] == names
    assert found == labels


def test_a_row_that_may_be_of_several_labels_is_of_none(tmp_path):
    (tmp_path / "l.csv").write_text("a/1.png,cat\nb/1.png,dog\nc/2.png,cat\nd/2.png,cat\n")
    chosen, labels, notes = assign_labels(members("1.png", "2.png"), str(tmp_path / "l.csv"))
    assert ([member.name for member in chosen], labels) == (["2.png"], ["cat"])
    assert "1 without a label" in notes[1]


def test_a_column_belongs_to_a_table():
    for labels in ("none", "folders"):
        with refused("conflict", "column"):
            assign_labels(members("cat/1.png"), labels, "kind")


def test_classes_that_no_packed_file_can_hold(tmp_path, monkeypatch):
    with refused("unsupported", "labels"):
        assign_labels(members(f"{'x' * 201}/1.png"), "folders")
    monkeypatch.setattr(labelling, "MAX_CLASSES", 1)
    with refused("unsupported", "labels"):
        assign_labels(members("cat/1.png", "dog/1.png"), "folders")


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
