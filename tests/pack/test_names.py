"""Encodings of names that don't state one, Unicode forms, and names of tools."""

from pathlib import PurePosixPath

import pytest

from gan_lab.pack.names import LANGUAGES, MAX_SAMPLES, TEXT_ENCODINGS, ZIP_ENCODINGS, decode_names, nfc, tool_name

# As the folders of a class in a school would be.
WORDS = {
    "cp949": ["고양이", "강아지", "토끼", "호랑이", "곰"],
    "cp932": ["猫", "うさぎ", "ライオン", "表", "桜"],
    "gbk": ["猫", "狗", "兔子", "老虎", "大象"],
    "big5": ["貓", "兔子", "獅子", "蘋果", "飛機"],
    "cp437": ["Hündin", "Löwe", "élève", "garçon", "niño", "Straße"],
    "cp866": ["кошка", "Собака", "лев", "Новая папка"],
}
ANSI = {**WORDS, "cp1252": WORDS["cp437"], "mac_roman": WORDS["cp437"], "cp1251": WORDS["cp866"]}
del ANSI["cp437"], ANSI["cp866"]


@pytest.mark.parametrize(
    ("encodings", "encoding", "words"),
    [
        *((ZIP_ENCODINGS, encoding, words) for encoding, words in WORDS.items()),
        (ZIP_ENCODINGS, "cp850", ["Ångström", "Århus", "São", "Ørsted"]),
        *((TEXT_ENCODINGS, encoding, words) for encoding, words in ANSI.items()),
    ],
)
def test_an_encoding_is_recognised_by_words(encodings, encoding, words):
    names = [f"{word}/{number}.png" for word in words for number in range(3)]
    assert decode_names([name.encode(encoding) for name in names], encodings) == (names, encoding)
    assert encoding in LANGUAGES[encoding]


@pytest.mark.parametrize("encoding", ["cp949", "cp932", "gbk", "big5", "cp866", "cp850"])
def test_names_of_files_help(encoding):
    """One class is little to go by; the photographs in it have names as well."""
    words = {"cp850": WORDS["cp437"]}.get(encoding, WORDS.get(encoding, []))
    names = [f"photos/{word} {number}.jpg" for number, word in enumerate(words)]
    assert decode_names([name.encode(encoding) for name in names], ZIP_ENCODINGS)[0] == names


def test_utf8_needs_no_guess():
    """macOS and Linux write UTF-8 into zips without saying so."""
    names = ["고양이/1.png", "Löwe/2.png", nfc("é").encode().decode(), "plain.png"]
    assert decode_names([name.encode() for name in names], ZIP_ENCODINGS) == (names, None)
    assert decode_names([], ZIP_ENCODINGS) == ([], None)


def test_a_folder_may_hold_both():
    """A zip of Windows, unpacked on Linux beside folders made there."""
    names = ["고양이/1.png", "강아지/2.png", "토끼/3.png"]
    raw = [names[0].encode(), names[1].encode(), names[2].encode("cp949")]
    assert decode_names(raw, TEXT_ENCODINGS) == (names, "cp949")
    inside = [f"데이터/{name}" for name in names]
    raw = ["데이터/".encode() + name.encode("cp949") for name in names]
    assert decode_names(raw, TEXT_ENCODINGS) == (inside, "cp949")
    # Even within one name, and where the bytes of UTF-8 are none of the other encoding.
    raw = ["데이터 ".encode() + word.encode("cp949") for word in WORDS["cp949"]]
    assert decode_names(raw, TEXT_ENCODINGS)[0] == [f"데이터 {word}" for word in WORDS["cp949"]]


def test_chinese_that_is_valid_utf8_by_chance():
    """猫 in GBK is C3 A8, which is è in UTF-8."""
    names = ["猫/1.png", "狗/1.png"]
    raw = [name.encode("gbk") for name in names]
    assert raw[0].decode() == "è/1.png"
    assert decode_names(raw, ZIP_ENCODINGS) == (names, "gbk")


def test_any_bytes_have_names():
    raw = [bytes([byte, 255 - byte]) + b".png" for byte in range(1, 255)]
    for encodings in (ZIP_ENCODINGS, TEXT_ENCODINGS):
        names, encoding = decode_names(raw, encodings)
        assert encoding is not None
        assert [name.encode(encoding) for name in names] == raw


def test_the_order_of_names_does_not_matter():
    raw = [f"{word}{number}".encode("cp949") for word in WORDS["cp949"] for number in range(MAX_SAMPLES)]
    assert decode_names(raw[::-1], ZIP_ENCODINGS)[1] == decode_names(raw, ZIP_ENCODINGS)[1] == "cp949"


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("cat/.ipynb_checkpoints/1-checkpoint.png", ".ipynb_checkpoints"),
        ("cat/@eaDir/1.png/SYNOPHOTO_THUMB_M.jpg", "@eaDir"),
        ("$RECYCLE.BIN/S-1-5-21/$R1.png", "$RECYCLE.BIN"),
        ("$Recycle.Bin/1.png", "$Recycle.Bin"),
        (".git/1.png", ".git"),
        (".Trash-1000/files/1.png", ".Trash-1000"),
        (".thumbnails/normal/1.png", ".thumbnails"),
        (".AppleDouble/1.png", ".AppleDouble"),
        ("System Volume Information/1.png", "System Volume Information"),
        ("lost+found/1.png", "lost+found"),
        ("#recycle/cat/1.png", "#recycle"),
        ("__MACOSX/cat/._1.png", "__MACOSX"),
        ("@Recently-Snapshot/cat/1.png", "@Recently-Snapshot"),
        ("cat/._1.png", "._1.png"),
        ("cat/.1.png.icloud", ".1.png.icloud"),
        ("cat/Thumbs.db", "Thumbs.db"),
        ("cat/1.png", None),
        ("../cat/1.png", None),
        ("recycle/1.png", None),
        ("cat/1..png", None),
    ],
)
def test_names_of_tools(path, name):
    assert tool_name(PurePosixPath(path)) == name
