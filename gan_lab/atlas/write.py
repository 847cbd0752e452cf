"""Writes the atlas: docs/atlas.md, its map, atlas.html, and the table of all GANs that these were made from."""

from collections.abc import Sequence
from pathlib import Path

from gan_lab.atlas.cells import cells
from gan_lab.atlas.document import insert, size_of, write_part
from gan_lab.atlas.page import film_name, render_page
from gan_lab.atlas.pictures import map_of
from gan_lab.atlas.plan import FILMS, NONE
from gan_lab.atlas.table import CELL, HOW_TO_MEASURE, TABLES, cell_of, read_costs, read_tables, write_table
from gan_lab.comparison import charts
from gan_lab.comparison.collect import Record, find_runs, read_record
from gan_lab.comparison.films import sheet_film
from gan_lab.core.errors import LabError
from gan_lab.core.io import atomic

PICTURES = "pictures"
MAX_FILM_BYTES = 60_000


def sources(paths: Sequence[str | Path]) -> list[Record] | None:
    """Returns the runs of the atlas below folders; None if the paths are not of the atlas.

    They are if there is a table among them, or if all runs that they have belong to the atlas.

    Raises:
        LabError: if a folder is missing.
    """
    records = []
    for path in map(Path, paths):
        if path.suffix in TABLES:
            continue
        for run in find_runs(path):
            record = read_record(run)
            if cell_of(record):
                records.append(record)
            elif record.status != "foreign":
                return None
    if records or any(Path(path).suffix in TABLES for path in paths):
        return records
    return None


def write_atlas(paths: Sequence[str | Path], records: Sequence[Record], target: Path) -> list[Path]:
    """Writes the atlas of runs and tables.

    Args:
        paths: those that are CSV files are tables that this function wrote; those that are JSON files say what a step
            with each treatment costs (`table.read_costs`).
        records: of the runs (`sources`).
        target: the document, of which what stands outside the marks stays (`document.insert`). The page, the table and
            the folder of pictures are next to it.

    Returns:
        The files but for the films.

    Raises:
        LabError: if a table or a run is damaged, or there is nothing to compare.
        OSError: if nothing can be written.
    """
    table = read_tables(paths, records)
    try:
        found = cells(table, read_costs(paths))
    except KeyError as error:
        raise LabError(
            f"What {error.args[0]} costs is missing.",
            HOW_TO_MEASURE,
            code="missing",
            key="runs",
        ) from error
    if not found:
        raise LabError(
            "No treatment has untreated runs to be compared with.",
            "Train all of the atlas: python scripts/atlas.py",
            code="missing",
            key="runs",
        )
    page = target.with_suffix(".html")
    map_path = target.parent / PICTURES / f"{target.stem}_map.png"
    films = _films(records, map_path.parent)
    part = write_part(table, found, f"{PICTURES}/{map_path.name}", page.name)
    texts = {
        target.with_suffix(".csv"): write_table(table),
        page: render_page(found, size_of(table, found), films),
        target: insert(target, part),
    }
    pictures = {map_path: charts.png(map_of(found))}
    for name, film in films.items():
        pictures[map_path.with_name(name)] = film
    for path, content in pictures.items():
        with atomic(path) as temporary:
            temporary.write_bytes(content)
    for path, text in texts.items():
        with atomic(path) as temporary:
            temporary.write_text(text, encoding="utf-8", newline="\n")
    return [*texts, map_path]


def _films(records: Sequence[Record], folder: Path) -> dict[str, bytes]:
    """Returns a film of each treatment as GIF, without it and with it side by side, by the name of its file.

    They are those of the runs of the stage `plan.FILMS`; without such runs, those that are in the folder already.
    """
    runs = {}
    for record in records:
        cell = cell_of(record)
        if cell and cell[0] == FILMS:
            runs[cell[CELL.index("treatment")]] = record.run
    films = {}
    untreated = runs.pop(NONE, None)
    if untreated is not None:
        for name, run in runs.items():
            film = sheet_film([("without", untreated), (name, run)], MAX_FILM_BYTES)
            if film is not None:
                films[film_name(name)] = film
        return films
    for path in sorted(folder.glob(film_name("*"))):
        films[path.name] = path.read_bytes()
    return films
