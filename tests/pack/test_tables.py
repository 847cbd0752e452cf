"""Tables of labels as spreadsheets, Kaggle and CelebA write them."""

import pytest
from conftest import refused

from gan_lab.pack.tables import read_table

FILES = {"1", "2", "3"}


def table(tmp_path, content, column=None, files=FILES):
    path = tmp_path / "labels.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_table(path, column, lambda cell: cell.removesuffix(".png") in files)


@pytest.mark.parametrize(
    "content",
    [
        "file,label\n1.png,cat\n2.png,dog\n",
        "file;label\n1.png;cat\n2.png;dog\n",
        "file\tlabel\r\n1.png\tcat\r\n2.png\tdog\r\n",
        "file label\n1.png   cat\n2.png dog\n",
        "1.png,cat\n2.png,dog\n",
        "1.png cat\n2.png dog",
        "7.png,cat\n2.png,dog\n1.png,cat".replace("7.png,cat\n", ""),
        "sep=;\nfile;label\n1.png;cat\n2.png;dog\n",
        '"file","label"\n"1.png","cat"\n"2.png","dog"\n',
        "file,label,,\n1.png,cat,,\n2.png,dog,,\n,,,\n",
        ",file,label\n0,1.png,cat\n1,2.png,dog\n",
        "label,file\ncat,1.png\ndog,2.png\n",
        ".\\1.png,cat\n./2.png,dog\n",
        "2\nlabel\n1.png cat\n2.png dog\n",
    ],
)
def test_forms_of_one_table(tmp_path, content):
    assert table(tmp_path, content).labels == {"1.png": "cat", "2.png": "dog"}


def test_without_a_header_the_first_image_stays(tmp_path):
    read = table(tmp_path, "1,cat\n2,dog\n")
    assert read.labels == {"1": "cat", "2": "dog"}
    assert "no header" in read.notes[0]
    # Neither is in the source, but no header has a file's name.
    assert table(tmp_path, "8.png,cat\n9.jpeg,dog\n").labels == {"8.png": "cat", "9.jpeg": "dog"}
    assert table(tmp_path, "id,label\n1,cat\n2,dog\n").labels == {"1": "cat", "2": "dog"}


def test_several_columns(tmp_path):
    content = "id,kind,colour\n1,cat,red\n2,dog,blue\n"
    for column, labels in (("kind", ["cat", "dog"]), ("colour", ["red", "blue"]), ("3", ["red", "blue"])):
        read = table(tmp_path, content, column)
        assert list(read.labels.values()) == labels
        assert f"column {2 if column == 'kind' else 3}" in read.notes[0]
    with refused("missing", "column") as error:
        table(tmp_path, content)
    assert "kind, colour" in str(error.value)
    for column in ("size", "1", "4", "id"):
        with refused("unknown", "column"):
            table(tmp_path, content, column)


CELEBA = """3
5_o_Clock_Shadow Smiling Young
1.png -1  1  1
2.png -1 -1  1
3.png  1 -1 -1
"""


def test_celebas_own_files(tmp_path):
    smiling = {"1.png": "Smiling", "2.png": "not Smiling", "3.png": "not Smiling"}
    assert table(tmp_path, CELEBA, "Smiling").labels == smiling
    assert table(tmp_path, CELEBA, "5_o_Clock_Shadow").labels["3.png"] == "5_o_Clock_Shadow"
    kaggle = "image_id,5_o_Clock_Shadow,Smiling\n1.png,-1,1\n2.png,-1,-1\n3.png,1,-1\n"
    assert table(tmp_path, kaggle, "Smiling").labels == smiling
    assert table(tmp_path, "1.png 2880\n2.png 2937\n3.png 2880\n").labels == {
        "1.png": "2880",
        "2.png": "2937",
        "3.png": "2880",
    }
    boxes = "2\nimage_id x_1 y_1\n1.png 95 71\n2.png 72 94\n"
    assert table(tmp_path, boxes, "x_1").labels == {"1.png": "95", "2.png": "72"}


def test_tiny_imagenets_annotations(tmp_path):
    content = "1.png\tn03444034\t0\t32\n2.png\tn04067472\t52\t55\n"
    assert table(tmp_path, content, "2").labels == {"1.png": "n03444034", "2.png": "n04067472"}
    with refused("missing", "column"):
        table(tmp_path, content)


@pytest.mark.parametrize(
    ("encoding", "words"),
    [
        ("cp949", ["고양이", "강아지", "토끼"]),
        ("cp932", ["ねこ", "うさぎ", "ライオン"]),
        ("cp1252", ["Löwe", "Hündin", "Käfer"]),
        ("mac_roman", ["Löwe", "Hündin", "Käfer"]),
        ("utf-16", ["고양이", "Löwe", "é"]),
        ("utf-8-sig", ["고양이", "Löwe", "é"]),
    ],
)
def test_excel_of_several_countries(tmp_path, encoding, words):
    content = "file,label\n" + "".join(f"{number}.png,{word}\n" for number, word in enumerate(words, start=1))
    read = table(tmp_path, content.encode(encoding))
    assert list(read.labels.values()) == words
    assert bool(read.notes) == (not encoding.startswith("utf"))


def test_labels_are_compared_composed(tmp_path):
    assert set(table(tmp_path, "1.png,caf\u00e9\n2.png,cafe\u0301\n").labels.values()) == {"caf\u00e9"}


@pytest.mark.parametrize(
    "content",
    [
        b'{"1.png": "cat"}',
        b'\xef\xbb\xbf{"1.png": "cat"}',
        b' [{"file": "1.png"}]',
        b"PK\x03\x04",
        b"\x89HDF\r\n",
        b"MATLAB 5.0",
        b"<html>",
    ],
)
def test_what_is_no_table_is_refused(tmp_path, content):
    with refused("unsupported", "labels"):
        table(tmp_path, content)


@pytest.mark.parametrize(
    ("content", "phrase"),
    [
        ("file,label\n1.png,cat\n2.png\n", "row 3: 1 columns"),
        ("file,label\n1.png,cat,too\n", "row 2: 3 columns"),
        ("file\n1.png\n", "row 2: 1 columns"),
        ("a,b,c\n1.png,,x\n", "row 2"),
    ],
)
def test_rows_that_do_not_fit(tmp_path, content, phrase):
    with refused("invalid", "labels") as error:
        table(tmp_path, content, "b" if content.startswith("a") else None)
    assert phrase in str(error.value)
