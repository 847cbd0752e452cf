"""The YAML files of a configuration, conf/'s and a user's; what Hydra would read as nothing is refused by its line.

Hydra takes a file without a `# @package` header, or with one that it doesn't recognise, for a part of its own group:
the settings of an experiment then lie below `experiment`, where nothing reads them.
"""

import codecs
import copy
import difflib
import functools
import io
import re
from pathlib import Path
from typing import Any

import yaml
from hydra._internal.core_plugins.file_config_source import FileConfigSource
from hydra._internal.sources_registry import SourcesRegistry
from hydra.core.plugins import Plugins
from hydra.plugins.config_source import ConfigResult
from omegaconf import OmegaConf

from gan_lab.config.schema import recipes
from gan_lab.config.targets import groups
from gan_lab.core.errors import LabError
from gan_lab.core.io import MAX_TEXT, read_bytes, relative_path

GLOBAL = "_global_"
MAX_FILES = 512  # whose content is kept
_HEADER = re.compile(r"\s*#\s*@package\s+(\S+)\s*")
# A comment that looks like a header: `# @Package x`, `# @package: x`, `# package _x_`.
_LIKE_A_HEADER = re.compile(r"\s*#+\s*(?:@\s*(\w+)|package\W+_\w+_\s*$)", re.IGNORECASE)
# Byte-order marks of what isn't UTF-8. UTF-32's begins like UTF-16's.
_OTHER_ENCODINGS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


_load_as_hydra = FileConfigSource.load_config


class ConfigFiles(FileConfigSource):
    """A folder of YAML files, as Hydra reads it, except that mistakes are refused; a UTF-8 byte-order mark is none."""

    def load_config(self, config_path: str) -> ConfigResult:
        path = Path(self.path, self._normalize_file_name(config_path))
        if not path.is_file():
            return _load_as_hydra(self, config_path)
        name = relative_path(path)
        text = _text_of(path, name)
        package = _package_of(text, name)
        config = _parse(text, name)
        # The file of a command is in no group.
        if "/" in config_path:
            _refuse_without_effect(name, config_path, package, config)
        return ConfigResult(
            config=config, path=f"file://{self.path}", provider=self.provider, header={"package": package}
        )


def register_config_files() -> None:
    """Lets Hydra read files as `ConfigFiles` does."""
    # This registers Hydra's own source of files. Another class in its place would be refused in the worker processes of
    # a sweep, where Hydra registers its own again.
    Plugins.instance()
    registered: Any = SourcesRegistry.instance().types[ConfigFiles.scheme()]
    registered.load_config = ConfigFiles.load_config


def _text_of(path: Path, name: Path) -> str:
    """Reads a file as UTF-8, with or without a byte-order mark.

    Raises:
        LabError: naming the line of what isn't UTF-8.
    """
    content = read_bytes(path, MAX_TEXT)
    if content.startswith(_OTHER_ENCODINGS) or b"\0" in content:
        raise _refusal(name, 1, "it is UTF-16 or no text.", "Save it as UTF-8.")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise _refusal(name, line, "it isn't UTF-8.", "Save it as UTF-8.") from error


def _package_of(text: str, name: Path) -> str | None:
    """Returns the package that the header names; None without a header.

    Raises:
        LabError: for a line that is meant as a header but that Hydra doesn't take for one.
    """
    package = None
    is_head = True
    for number, line in enumerate(text.splitlines(), start=1):
        header = _HEADER.fullmatch(line)
        if header and is_head:
            package = header[1]
        elif _is_like_a_header(line):
            raise _refusal(
                name,
                number,
                f"'{line.strip()}' has no effect.",
                "A header is one of the first lines, before all others: # @package _global_",
            )
        elif line.strip():
            is_head = False
    return package


def _is_like_a_header(line: str) -> bool:
    match = _LIKE_A_HEADER.match(line)
    if match is None:
        return False
    word = (match[1] or "package").lower()
    return word.startswith("package") or bool(difflib.get_close_matches(word, ["package"], cutoff=0.7))


def _parse(text: str, name: Path) -> Any:
    """Parses a file as OmegaConf does.

    Raises:
        LabError: if it isn't YAML, has a key twice, or holds a list or a word instead of keys.
    """
    try:
        # Whoever composes a configuration changes what it is made of.
        config = copy.deepcopy(_load(text))
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        hint = "YAML is indented by spaces." if "\\t" in str(error.problem) else ""
        raise _refusal(name, line, f"{error.problem or error}.", hint) from error
    except (yaml.YAMLError, OSError, ValueError) as error:
        raise _refusal(name, 1, f"it can't be read: {error}", "") from error
    # OmegaConf takes a mere word for a key without a value.
    is_word = len(config) == 1 and ":" not in text
    if is_word or not OmegaConf.is_dict(config):
        raise _refusal(name, 1, "it has no keys.", "Write key: value, a line for each.")
    return config


@functools.lru_cache(MAX_FILES)
def _load(text: str) -> Any:
    """Loads YAML, each text once: all jobs of a sweep in a process compose the same files."""
    return OmegaConf.load(io.StringIO(text))


def _refuse_without_effect(name: Path, config_path: str, package: str | None, config: Any) -> None:
    """Refuses a recipe, a remedy or a metric whose settings would end where nothing reads them.

    Args:
        name: of the file, for the message.
        config_path: group and option, `experiment/mine`.
        package: of its header.
        config: its content.
    """
    group, _, option = config_path.removesuffix(".yaml").partition("/")
    settings = [key for key in config if key != "defaults"]
    if group in recipes():
        if not config:
            raise _refusal(name, 1, f"it is empty, so {group}={option} would change nothing.", "Write key: value.")
        root = (package or group).partition(".")[0]
        is_read = root == GLOBAL or root in groups() - recipes()
        if settings and not is_read:
            raise _refusal(
                name, 1, f"'{settings[0]}' would have no effect.", "Begin the file with the line # @package _global_"
            )
    if group in ("remedy", "metrics") and package is None:
        raise _refusal(
            name,
            1,
            f"{group}=[{option}] would have no effect.",
            f"Begin the file with the line # @package {group}.{option.replace('/', '_')}",
        )


def _refusal(name: Path, line: int, what: str, hint: str) -> LabError:
    return LabError(f"{name}, line {line}: {what}", hint, code="invalid", key=name.name)
