"""How a command starts: Hydra composes its configuration, and every mistake of a user's ends in one message."""

import difflib
import os
import re
import sys
from collections.abc import Callable

import hydra
import yaml
from hydra.core.hydra_config import HydraConfig
from hydra.errors import ConfigCompositionException, HydraException, MissingConfigException, OverrideParseException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from gan_lab.config import CONF, groups, refuse_taken_folder, register_resolvers
from gan_lab.errors import LabError


def command(config: str) -> Callable[[Callable[[DictConfig], None]], Callable[[], None]]:
    """Turns `main(cfg)` into a command whose configuration is `conf/<config>.yaml` plus `key=value`s.

    A user's mistake (LabError, or what Hydra and OmegaConf refuse) is printed as one message, exit status 2. With
    HYDRA_FULL_ERROR=1 in the environment the traceback is shown instead.
    """

    def decorate(main: Callable[[DictConfig], None]) -> Callable[[], None]:
        def task(cfg: DictConfig) -> None:
            try:
                main(cfg)
            except Exception as error:
                if debug or HydraConfig.get().mode == RunMode.MULTIRUN or not (text := message(error, config)):
                    raise
                _refuse(text)

        debug = os.environ.get("HYDRA_FULL_ERROR") == "1"

        def run() -> None:
            os.environ["HYDRA_FULL_ERROR"] = "1"  # lets Hydra's exceptions reach us instead of its own printer
            register_resolvers()
            try:
                refuse_taken_folder(sys.argv[1:])
                hydra.main(version_base="1.3", config_path=str(CONF), config_name=config)(task)()
            except Exception as error:
                if debug or not (text := message(error, config)):
                    raise
                _refuse(text)
            except KeyboardInterrupt:
                print("\nInterrupted.", file=sys.stderr)
                sys.exit(130)

        return run

    return decorate


def _refuse(text: str) -> None:
    print(text, file=sys.stderr)
    sys.exit(2)


def message(error: BaseException, config: str) -> str | None:
    """What to tell the user, or None for an error that isn't the user's."""
    chain = [error]
    while (cause := chain[-1].__cause__ or chain[-1].__context__) and cause not in chain:
        chain.append(cause)
    for link in chain:
        if isinstance(link, LabError):
            return str(link)
    if isinstance(error, OSError) and error.filename:
        return f"{error.filename}: {error.strerror}."
    if isinstance(error, yaml.YAMLError):
        return f"A configuration can't be read: {error}"
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        group, _, option = error.missing_cfg_file.partition("/")
        files = (CONF / group).rglob("*.yaml")
        options = sorted(file.relative_to(CONF / group).with_suffix("").as_posix() for file in files)
        return f"There is no {group}={option}.{_nearest(option, options)}\nChoose from: {', '.join(options)}."
    if isinstance(error, ConfigCompositionException):
        key = re.search(r"(?:override|Could not (?:append|delete)[^']*|for) '([^'@=]+)", str(error))
        if key and "Ambiguous" not in str(error):
            return _unknown_key(key[1].lstrip("+~"), config)
    if isinstance(error, OverrideParseException):
        return f"Can't read '{error.override}': {chain[0]}.\nQuote values with special characters: 'key=\"a, b\"'."
    if isinstance(error, ValueError) and "Config group override" in str(error):
        return "A group takes one of its options, by name; --help lists them."
    if isinstance(error, (HydraException, OmegaConfBaseException)):
        return "\n".join(line for line in str(chain[0]).splitlines() if not line.startswith("See https://hydra"))
    return None


def _unknown_key(key: str, config: str) -> str:
    """Names the keys that stand where a mistyped one was looked for, with the command line's group choices in force."""
    parent, _, name = key.rpartition(".")
    choices = [arg for arg in sys.argv[1:] if arg.split("=")[0] in groups()]
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        node = cfg = hydra.compose(config, choices)
    if parent:
        node = OmegaConf.select(cfg, parent)
    if not isinstance(node, DictConfig):
        parent, name, node = "", key, cfg
    keys = sorted(str(k) for k in node if not str(k).startswith("_"))
    has = f"{parent} has" if parent else "Keys and groups"
    return f"There is no key '{key}'.{_nearest(name, keys, parent)}\n{has}: {', '.join(keys) or 'nothing to set'}."


def _nearest(name: str, names: list[str], parent: str = "") -> str:
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    return f" Did you mean '{parent + '.' if parent else ''}{close[0]}'?" if close else ""
