"""Reads the names in a source as their writers meant them: their encoding, their Unicode form, and names of tools.

Zips of Windows and old tars don't say how their names are encoded. Libraries that detect encodings need a text; these
are single words. So every encoding that is in use is tried on all names together, and the one counts in which they look
most like words: each letter costs about as many bits as it is rare in its language.
"""

import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from operator import itemgetter
from pathlib import PurePosixPath

# What Windows writes into zips (OEM code pages), and into texts, tars and folders (ANSI code pages; Mac OS Roman is
# Excel's on macOS). cp437 and mac_roman decode any bytes.
ZIP_ENCODINGS = ("cp437", "cp850", "cp949", "cp932", "gbk", "big5", "cp866")
TEXT_ENCODINGS = ("cp1252", "cp949", "cp932", "gbk", "big5", "cp1251", "mac_roman")
LANGUAGES = {
    "cp437": "Western European (cp437)",
    "cp850": "Western European (cp850)",
    "cp1252": "Western European (cp1252)",
    "mac_roman": "Western European (mac_roman)",
    "cp949": "Korean (cp949)",
    "cp932": "Japanese (cp932)",
    "gbk": "simplified Chinese (gbk)",
    "big5": "traditional Chinese (big5)",
    "cp866": "Cyrillic (cp866)",
    "cp1251": "Cyrillic (cp1251)",
}

MAX_PATH = 1024  # characters of a name with its folders; a file system allows 4,096 bytes at most
SEPARATORS = re.compile(rb"([\0-\x3f]+)")  # bytes that belong to no letter of these encodings: digits, /, dots, spaces
MAX_SAMPLES = 1000  # words that are looked at
MAX_SAMPLE = 255  # bytes of one; no file system has longer names

# Bits of the parts of a Hangul syllable, counted in Korean prose: first consonant, vowel, last consonant.
INITIAL_BITS = (3, 7, 3, 3, 7, 5, 4, 5, 9, 4, 8, 2, 4, 7, 6, 7, 6, 6, 4)
VOWEL_BITS = (2, 5, 8, 13, 3, 5, 5, 8, 4, 6, 11, 7, 7, 4, 8, 13, 8, 7, 3, 6, 2)
FINAL_BITS = (1, 5, 10, 13, 3, 13, 8, 9, 4, 9, 10, 10, 13, 13, 13, 13, 5, 4, 8, 5, 6, 4, 9, 9, 13, 7, 10, 8)
ASCII_BITS = 5
KANA_BITS = 7
COMMON_HAN_BITS = 12  # of the level that an encoding puts first: 3,000 to 5,400 characters
RARE_HAN_BITS = 15
IMPROBABLE_BITS = 18  # symbols, box drawing, characters of other languages
MIXED_BITS = 30  # names of two encodings in one source
BORDER_BITS = 6  # where a word changes from one script to another, or from a small to a capital letter
COMMON_LATIN = frozenset("äöüßéèñóáíçãå")
COMMON_CYRILLIC = frozenset("оеаинтсрвлкмдпу")

# Folders and files of systems and tools; those whose names begin with a dot are left out as well.
TOOL_NAMES = frozenset(
    {
        "__macosx",
        "@eadir",  # thumbnails of a Synology NAS
        "#recycle",
        "#snapshot",
        "@recycle",  # of a QNAP NAS
        "@recently-snapshot",
        "~snapshot",  # of NetApp
        "$recycle.bin",
        "system volume information",
        "found.000",  # of Windows' chkdsk
        "lost+found",
        "network trash folder",
        "temporary items",
        "__pycache__",
        "thumbs.db",
        "ehthumbs.db",
        "desktop.ini",
    }
)


def nfc(text: str) -> str:
    """Returns a text in Unicode's composed form; macOS writes names decomposed, an é as e and an accent.

    One that is too long for a name stays as it is: accents without end would take their time.
    """
    return unicodedata.normalize("NFC", text) if len(text) <= MAX_PATH else text


def tool_name(path: PurePosixPath) -> str | None:
    """Returns the first part of a path that a system or a tool has made, such as @eaDir or .git; None without one."""
    for part in path.parts:
        if part.startswith(".") and part != "..":
            return part
        if part.casefold() in TOOL_NAMES:
            return part
    return None


def to_bytes(name: str) -> bytes:
    """Returns the bytes of a name that Python has decoded as UTF-8, with surrogates for what isn't."""
    try:
        return name.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        # Half a surrogate pair, which Windows allows in a name.
        return name.encode("utf-8", "surrogatepass")


def decode_names(names: Sequence[bytes], encodings: Sequence[str]) -> tuple[list[str], str | None]:
    """Decodes the names of one source, which don't say how they are encoded.

    Args:
        names: with their folders.
        encodings: to choose from, if the names aren't UTF-8. Each has a model in `MODELS`, and one decodes any bytes.

    Returns:
        The names, and the encoding; None if all names are UTF-8.
    """
    words: set[bytes] = set()
    for name in names:
        if not name.isascii():
            words.update(word for word in SEPARATORS.split(name) if not word.isascii())
    if all(_can_decode(word, "utf-8") for word in words):
        return [name.decode() for name in names], None
    # Folders may hold both: names in UTF-8, and others that an archive brought.
    utf8_words = {word for word in words if _is_clearly_utf8(word)}
    utf8_bits = MIXED_BITS + _bits(utf8_words, "utf-8")
    choices: list[tuple[float, str, bool]] = []
    for encoding in encodings:
        if all(_can_decode(word, encoding) for word in words):
            choices.append((_bits(words, encoding), encoding, False))
        others = words - utf8_words
        if utf8_words and all(_can_decode(word, encoding) for word in others):
            choices.append((utf8_bits + _bits(others, encoding), encoding, True))
    _, best_encoding, is_mixed = min(choices, key=itemgetter(0))
    if is_mixed:
        return [_decode_mixed(name, best_encoding) for name in names], best_encoding
    return [name.decode(best_encoding) for name in names], best_encoding


def _decode_mixed(name: bytes, encoding: str) -> str:
    """Decodes a name whose words may be in UTF-8 or in an encoding."""
    parts = SEPARATORS.split(name)
    return "".join(part.decode("utf-8" if _is_clearly_utf8(part) else encoding) for part in parts)


def _can_decode(word: bytes, encoding: str) -> bool:
    try:
        word.decode(encoding)
    except UnicodeDecodeError:
        return False
    return True


def _is_clearly_utf8(word: bytes) -> bool:
    """Returns whether a word is UTF-8 with a character of three bytes; one of two may be Chinese, as 猫 in GBK."""
    return _can_decode(word, "utf-8") and any(character >= "\u0800" for character in word.decode())


def _bits(words: Iterable[bytes], encoding: str) -> float:
    """Returns how many bits words cost in the language of an encoding; fewer are more probable.

    Of many words some are looked at, spread evenly, and of long ones the beginning.
    """
    ordered = sorted(words)
    step = len(ordered) // MAX_SAMPLES + 1
    samples = [word[:MAX_SAMPLE].decode(encoding, "replace") for word in ordered[::step]]
    return step * sum(_word_bits(nfc(word), encoding) for word in samples)


def _word_bits(word: str, encoding: str) -> float:
    character_bits = MODELS[encoding]
    is_latin = character_bits is _latin_bits
    bits = 0.0
    previous = ""
    for character in word:
        bits += ASCII_BITS if character.isascii() else character_bits(character, encoding)
        if previous.isalpha() and character.isalpha():
            changes_script = previous.isascii() != character.isascii()
            grows = previous.islower() and character.isupper() and not character.isascii()
            # Within a Latin word two accented letters are rare, within any other a Latin letter.
            if grows or (changes_script != is_latin and not (previous.isascii() and character.isascii())):
                bits += BORDER_BITS
        previous = character
    return bits


def _korean_bits(character: str, _: str) -> float:
    if not "가" <= character <= "힣":
        return IMPROBABLE_BITS
    number = ord(character) - ord("가")
    return INITIAL_BITS[number // 588] + VOWEL_BITS[number // 28 % 21] + FINAL_BITS[number % 28]


def _han_bits(character: str, encoding: str) -> float:
    if encoding == "cp932" and ("ぁ" <= character <= "ん" or "ァ" <= character <= "ー"):
        return KANA_BITS
    common, rare = HAN_LEVELS[encoding]
    code = character.encode(encoding, "replace")
    # GBK's characters that GB 2312 hasn't have a smaller second byte.
    if len(code) != 2 or (encoding == "gbk" and code[1] < 0xA1):
        return IMPROBABLE_BITS
    if common[0] <= code[0] <= common[1]:
        # Big5 sorts them by strokes: the later, the rarer.
        return COMMON_HAN_BITS if encoding != "big5" else COMMON_HAN_BITS - 1 + (code[0] - common[0]) / 16
    return RARE_HAN_BITS if rare[0] <= code[0] <= rare[1] else IMPROBABLE_BITS


def _latin_bits(character: str, _: str) -> float:
    if character in COMMON_LATIN:
        return 7
    is_letter = character.isalpha() and character < "\u0180"
    return (10 if character.isupper() else 9) if is_letter else IMPROBABLE_BITS


def _cyrillic_bits(character: str, _: str) -> float:
    if character in COMMON_CYRILLIC:
        return 4
    if character.lower() not in "абвгдежзийклмнопрстуфхцчшщъыьэюяё":
        return IMPROBABLE_BITS
    return 8 if character.isupper() else 6


def _unicode_bits(character: str, _: str) -> float:
    """Returns the bits of a character in whichever language it is the most probable."""
    return min(model(character, encoding) for encoding, model in MODELS.items() if encoding != "utf-8")


# First bytes of an encoding's common Han characters, and of its rare ones.
HAN_LEVELS = {
    "cp932": ((0x88, 0x97), (0x98, 0xEA)),
    "gbk": ((0xB0, 0xD7), (0xD8, 0xF7)),
    "big5": ((0xA4, 0xC6), (0xC9, 0xF9)),
}
MODELS: dict[str, Callable[[str, str], float]] = {
    "utf-8": _unicode_bits,
    "cp949": _korean_bits,
    "cp932": _han_bits,
    "gbk": _han_bits,
    "big5": _han_bits,
    "cp437": _latin_bits,
    "cp850": _latin_bits,
    "cp1252": _latin_bits,
    "mac_roman": _latin_bits,
    "cp866": _cyrillic_bits,
    "cp1251": _cyrillic_bits,
}
