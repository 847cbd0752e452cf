"""Writes tables as CSV files in which a spreadsheet finds texts and numbers, never a formula; reads those by step."""

import csv
import io
import math
import re
import unicodedata
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gan_lab.core.errors import LabError
from gan_lab.core.io import MAX_TABLE, read_bytes
from gan_lab.core.terminal import printable

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

FORMULA_SIGNS = "=+-@"  # a text that begins with one of these, full-width and small forms too, is taken for a formula
NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")


def csv_cell(value: Any) -> Any:
    """Returns a cell, or a column's name, that is safe to open in a spreadsheet.

    In a text, control characters are escaped, and one that would begin a formula gets a leading apostrophe, as OWASP
    recommends against CSV injection. Numbers, also those written as texts, stay as they are.
    """
    if not isinstance(value, str) or NUMBER.fullmatch(value):
        return value
    text = printable(value)
    return f"'{text}" if _begins_formula(value) else text


def _begins_formula(text: str) -> bool:
    for letter in text:
        # Spreadsheets may skip leading separators (Z) and control or invisible characters (C).
        if unicodedata.category(letter)[0] in "ZC":
            continue
        return unicodedata.normalize("NFKC", letter)[:1] in FORMULA_SIGNS
    return False


def csv_text(table: "pd.DataFrame", float_format: str | None = None) -> str:
    """Returns the text of a CSV file with a header, without the index; cells and column names pass through `csv_cell`.

    Args:
        table: any columns; two may have the same name.
        float_format: printf format of floats, such as "%.7g"; None writes all digits.
    """
    import pandas as pd
    from pandas.api.types import is_numeric_dtype

    safe = table.copy()
    for position, dtype in enumerate(table.dtypes):
        if not is_numeric_dtype(dtype):
            cells = [csv_cell(value) for value in table.iloc[:, position]]
            safe.isetitem(position, pd.Series(cells, dtype=object).to_numpy())
    safe.columns = [csv_cell(name) for name in table.columns]
    return safe.to_csv(index=False, float_format=float_format, lineterminator="\n")


def step_table_text(rows: Mapping[int, Mapping[str, float]]) -> str:
    """Returns the text of a CSV file with a column `step`, and numbers of seven digits; NaN is an empty cell.

    It is written many times in a training, and pandas takes long to import.

    Args:
        rows: by step, the values by column; the names are `csv_cell`s.
    """
    # Columns in the order in which they came.
    columns: dict[str, None] = {}
    for row in rows.values():
        columns.update(dict.fromkeys(row))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["step", *columns])
    for step, row in rows.items():
        cells = [str(step)]
        for name in columns:
            value = row.get(name, math.nan)
            cells.append("" if math.isnan(value) else f"{value:.7g}")
        writer.writerow(cells)
    return text.getvalue()


def read_step_table(path: Path) -> "dict[str, np.ndarray]":
    """Reads a file that `step_table_text` made, whoever wrote it.

    Returns:
        By column its values, each `(rows,)`; NaN where a row has none.

    Raises:
        OSError: if the system can't read it.
        LabError: if it is damaged, too large, or no such table.
    """
    # Imported here: commands that only look for runs start faster.
    import numpy as np

    content = read_bytes(path, MAX_TABLE)
    try:
        names, *rows = csv.reader(io.StringIO(content.decode("utf-8"), newline=""))
        table = np.array([[cell or "nan" for cell in row] for row in rows], dtype=float).reshape(len(rows), len(names))
    except (ValueError, csv.Error) as error:
        raise LabError(f"{path.name} is damaged", code="damaged", key=path.name) from error
    return dict(zip(names, table.T, strict=True))


def write_csv(table: "pd.DataFrame", path: Path) -> None:
    """Writes a table without its index; see `csv_text`."""
    path.write_text(csv_text(table), encoding="utf-8", errors="backslashreplace", newline="")
