from pathlib import Path


def write_page(record, folder):
    return Path(folder) / "cure.html"
