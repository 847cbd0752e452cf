"""Tables as CSV files, in which a spreadsheet finds texts and numbers, never a formula."""

import re
import unicodedata
from pathlib import Path
from typing import Any

import pandas as pd
from pandas.api.types import is_numeric_dtype

from gan_lab.core.terminal import printable

FORMULA = "=+-@"  # what a spreadsheet reads on behind, in their full-width and small forms as well
NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")


def csv_cell(value: Any) -> Any:
    """A cell or a column's name: of a text, control characters are escaped, and what would begin a formula is led by an
    apostrophe, as OWASP recommends. Numbers stay, written as text as well."""
    if not isinstance(value, str) or NUMBER.fullmatch(value):
        return value
    shown = printable(value)
    return f"'{shown}" if _begins_formula(value) else shown


def _begins_formula(text: str) -> bool:
    for letter in text:
        if unicodedata.category(letter)[0] in "ZC":  # what isn't seen may be left out by who reads it
            continue
        return unicodedata.normalize("NFKC", letter)[:1] in FORMULA
    return False


def csv_text(table: pd.DataFrame, index_label: str | None = None, float_format: str | None = None) -> str:
    """The text of a CSV file with a header; cells and names of columns as `cell` makes them.

    Args:
        index_label: names the index, which is numbers; None leaves it out.
    """
    safe = table.copy()
    for place, dtype in enumerate(table.dtypes):
        if not is_numeric_dtype(dtype):
            cells = [csv_cell(value) for value in table.iloc[:, place]]
            safe.isetitem(place, pd.Series(cells, dtype=object).to_numpy())
    safe.columns = [csv_cell(name) for name in table.columns]
    with_index = index_label is not None
    return safe.to_csv(index=with_index, index_label=index_label, float_format=float_format, lineterminator="\n")


def write_csv(table: pd.DataFrame, path: Path) -> None:
    """Writes a table without its index, see `csv_text`."""
    path.write_text(csv_text(table), encoding="utf-8", newline="")
