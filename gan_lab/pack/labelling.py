"""Decides which class an image is of, by its folder or by a table of labels, and which images are held out."""

import hashlib
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np

from gan_lab.core.errors import LabError
from gan_lab.data.layout import MAX_CLASSES, MAX_NAME
from gan_lab.pack.archives import Member, natural_key
from gan_lab.pack.decoding import SUFFIXES
from gan_lab.pack.names import nfc
from gan_lab.pack.tables import read_table

# Words in names of folders for parts of a data set (training, test2017, seg_val), Korean, Japanese and Chinese as well.
SPLIT_WORDS = frozenset(
    {
        *("train", "training", "trainset", "trainval", "val", "valid", "validation", "valset", "dev", "eval"),
        *("test", "testing", "testset", "pred", "학습", "훈련", "검증", "평가", "시험", "테스트"),
        *("学習", "訓練", "検証", "評価", "テスト", "训练", "训练集", "验证", "验证集", "测试", "测试集"),
    }
)
WORDS_BESIDE_SPLIT = frozenset({"set", "data", "dataset", "image", "images", "img", "seg", "데이터", "용"})
# Folders that only say that images are in them.
CONTAINERS = frozenset({"image", "images", "img", "imgs", "jpg", "jpeg", "jpegs", "png", "pngs", "photos", "pictures"})

MAX_LONGER_ROWS = 1000  # of one file name in several folders, among which that of an image is looked for


class Labelling(NamedTuple):
    """The images to pack, with their classes.

    Attributes:
        members: the images.
        labels: the name of each one's class; None if nothing is known.
        notes: sentences for the user.
    """

    members: list[Member]
    labels: list[str] | None
    notes: list[str]


def assign_labels(members: Sequence[Member], labels: str, column: str | None = None) -> Labelling:
    """Labels the images of a source.

    Args:
        members: the images.
        labels: the configuration's key: "folders", the folder of each image that tells classes apart; "none"; or the
            path of a table, see `read_table`. A file name in it may leave out folders, or the suffix. Images that the
            table doesn't name, or that lie in no folder of a class, are left out.
        column: the table's column with the labels.

    Raises:
        LabError: if no image has a label; for a table that can't be read, contradicts itself, or names no image; for
            classes that a packed file can't hold.
    """
    if column is not None and labels in ("none", "folders"):
        raise LabError(
            f"column={column} belongs to a table of labels, but labels={labels}.",
            "Name the table: labels=<file>.",
            code="conflict",
            key="column",
        )
    if labels == "none":
        return _without_labels(members)
    labelling = _by_folder(members) if labels == "folders" else _by_table(members, Path(labels).expanduser(), column)
    _refuse_classes(set(labelling.labels or ()))
    return labelling


def _refuse_classes(names: set[str]) -> None:
    """Raises a LabError for classes that a packed file can't hold."""
    if len(names) > MAX_CLASSES:
        raise LabError(
            f"There are {len(names):,} classes, more than {MAX_CLASSES:,}.",
            "If the labels are numbers that were measured, group them.",
            code="unsupported",
            key="labels",
        )
    longest = max(names, key=len, default="")
    if len(longest) > MAX_NAME:
        raise LabError(
            f"The name of the class {longest[:40]}… has more than {MAX_NAME} characters.",
            "Shorten it.",
            code="unsupported",
            key="labels",
        )


def _without_labels(members: Sequence[Member]) -> Labelling:
    folders = {PurePosixPath(member.name).parent for member in members}
    notes = []
    if len(folders) > 1:
        notes.append(f"They lie in {len(folders):,} folders; labels=folders would make classes of them.")
    return Labelling(list(members), None, notes)


def _by_folder(members: Sequence[Member]) -> Labelling:
    paths = [_folders_of(member.name) for member in members]
    class_of_path = _classes_of_paths(set(paths))
    labelled_members = []
    class_names = []
    example = ""
    bare_members = []
    for member, path in zip(members, paths, strict=True):
        class_name = class_of_path[path]
        if class_name is None:
            bare_members.append(member)
            continue
        labelled_members.append(member)
        class_names.append(class_name)
        if len(path) > 1 and not example:
            example = f"Classes are folders: {member.name} is of class {class_name}."
    if members and not labelled_members:
        raise LabError(
            f"labels=folders, but {members[0].name} lies in no folder of a class.",
            "Use labels=none, or name a CSV file.",
            code="conflict",
            key="labels",
        )
    notes = [example] if example else []
    if bare_members:
        notes.append(
            f"{len(bare_members):,} images in no folder of a class are left out, such as {bare_members[0].name}."
        )
    return Labelling(labelled_members, class_names, notes)


def _folders_of(name: str) -> tuple[str, ...]:
    """Returns the folders of a member, without what only leads elsewhere: /, .. and drives as C:."""
    return tuple(
        folder
        for folder in PurePosixPath(nfc(name)).parts[:-1]
        if folder not in ("/", "//", "..") and not (len(folder) == 2 and folder[1] == ":")
    )


def _classes_of_paths(paths: set[tuple[str, ...]]) -> dict[tuple[str, ...], str | None]:
    """Returns the class that each path of folders stands for; None if it is of no class.

    It is the last folder, after those that tell no classes apart were removed: above and below it, train, val and
    other parts of a data set, and a folder that everything lies in; below it also images and the like.
    """
    remaining = {path: path for path in paths}
    while True:
        heads = {path[0] for path in remaining.values() if path}
        tails = {path[-1] for path in remaining.values() if len(path) > 1}
        if not tails:
            break
        are_splits = all(map(_is_split, heads))
        if all(_is_split(tail) or tail.casefold() in CONTAINERS for tail in tails):
            remaining = {path: rest[:-1] if len(rest) > 1 else rest for path, rest in remaining.items()}
        elif are_splits or len(heads) == 1:
            remaining = {path: rest[1:] for path, rest in remaining.items()}
        elif len(tails) == 1:
            remaining = {path: rest[:-1] if len(rest) > 1 else rest for path, rest in remaining.items()}
        else:
            break
    classes = {path: rest[-1] if rest else None for path, rest in remaining.items()}
    # Nothing but train/1.png and test/2.png: these are no classes.
    if all(name is None or _is_split(name) for name in classes.values()):
        return dict.fromkeys(classes)
    return classes


def _is_split(folder: str) -> bool:
    """Returns whether a folder's name is one of a part of a data set, such as train, Testing or seg_val."""
    words = set(re.findall(r"[^\W\d_]+", folder.casefold()))
    return bool(words & SPLIT_WORDS) and words <= SPLIT_WORDS | WORDS_BESIDE_SPLIT


def _by_table(members: Sequence[Member], table_path: Path, column: str | None) -> Labelling:
    files = {_stem(PurePosixPath(nfc(member.name)).name) for member in members}

    def is_member(cell: str) -> bool:
        return _stem(cell.replace("\\", "/").rpartition("/")[2]) in files

    table, notes = read_table(table_path, column, is_member)
    find_row = _RowFinder(table)
    labelled_members = []
    class_names = []
    member_of_row: dict[str, str] = {}
    for member in members:
        row = find_row(nfc(member.name))
        if row is None:
            continue
        if nfc(member_of_row.setdefault(row, member.name)) != nfc(member.name):
            raise LabError(
                f"{table_path}: {row} may be {member_of_row[row]} or {member.name}.",
                "Write names with their folders, as the source does.",
                code="conflict",
                key="labels",
            )
        labelled_members.append(member)
        class_names.append(table[row])
    if members and not labelled_members:
        raise LabError(
            f"{table_path} names none of the images, as {members[0].name}.",
            "One of its columns has to hold names of the files.",
            code="conflict",
            key="labels",
        )
    unlabelled = len(members) - len(labelled_members)
    if unlabelled:
        notes.append(f"{unlabelled:,} without a label in {table_path} are left out.")
    unused_rows = len(table) - len(member_of_row)
    if unused_rows:
        notes.append(f"{unused_rows:,} rows of {table_path} name no image.")
    return Labelling(labelled_members, class_names, notes)


class _RowFinder:
    """Finds the row of a table that names a member.

    Args:
        table: labels by file name.
    """

    def __init__(self, table: dict[str, str]):
        self.table = table
        self.rows_by_stem: dict[str, list[str]] = {}
        self.rows_by_file: dict[str, list[str]] = {}
        for row in table:
            stem = _stem(row)
            self.rows_by_stem.setdefault(stem, []).append(row)
            self.rows_by_file.setdefault(stem.rpartition("/")[2], []).append(row)

    def __call__(self, name: str) -> str | None:
        """Returns the row that names a member; None if there is none or it isn't clear.

        The longest ending of the name counts; if there is none, one without its suffix; if there is none, a row with
        more folders, such as an absolute path. Of several rows, all have to have the same label.
        """
        for ending in _endings(name):
            if ending in self.table:
                return ending
        stem = _stem(name)
        for ending in _endings(stem):
            if ending in self.rows_by_stem:
                return self._if_clear(self.rows_by_stem[ending])
        rows = self.rows_by_file.get(stem.rpartition("/")[2], [])
        if len(rows) > MAX_LONGER_ROWS:
            return None
        return self._if_clear([row for row in rows if _stem(row).endswith(f"/{stem}")])

    def _if_clear(self, rows: list[str]) -> str | None:
        return rows[0] if len({self.table[row] for row in rows}) == 1 else None


def _stem(name: str) -> str:
    """Returns a file's name without its suffix, if that is one of an image."""
    suffix = PurePosixPath(name).suffix
    return name[: -len(suffix)] if suffix.lower() in SUFFIXES else name


def _endings(name: str) -> Iterator[str]:
    """Gives a name with its folders, then without the first one, and so on."""
    parts = name.split("/")
    for first in range(len(parts)):
        yield "/".join(parts[first:])


def hold_out(names: Sequence[str], labels: Sequence[str] | None, fraction: float) -> np.ndarray:
    """Chooses the images that are held out.

    Args:
        names: of all images. Images are ordered by the SHA-256 of their names, so that the choice doesn't depend on the
            order of the source.
        labels: the name of each one's class, or None for one class.
        fraction: of each class, between 0 and 1. A class of two or more images has at least one image on either side; a
            class of one image is trained on.

    Returns:
        Which are held out, `(N,)` bool.
    """
    places_of_class: dict[str, list[int]] = {}
    for place, class_name in enumerate(labels or [""] * len(names)):
        places_of_class.setdefault(class_name, []).append(place)
    is_heldout = np.zeros(len(names), dtype=bool)
    for places in places_of_class.values():
        count = min(max(1, round(fraction * len(places))), len(places) - 1)
        places.sort(key=lambda place: hashlib.sha256(names[place].encode()).digest())
        is_heldout[places[:count]] = True
    return is_heldout


def classes_of(labels: Sequence[str]) -> tuple[list[str], np.ndarray]:
    """Returns the names of the classes in natural order, and the class number of each image, `(N,)` int64."""
    classes = sorted(set(labels), key=natural_key)
    numbers = {name: number for number, name in enumerate(classes)}
    return classes, np.array([numbers[name] for name in labels], dtype=np.int64)


def format_class_counts(labels: Sequence[str], max_classes: int = 10) -> str:
    """Returns the first classes and how many images each has: "cat 20, dog 10"."""
    counts = Counter(labels)
    names = sorted(counts, key=natural_key)
    texts = [f"{name} {counts[name]:,}" for name in names[:max_classes]]
    if len(names) > max_classes:
        texts.append("…")
    return ", ".join(texts)
