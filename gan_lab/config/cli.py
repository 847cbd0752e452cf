"""How a command starts: Hydra composes its configuration, and every mistake of a user's ends in one message."""

import difflib
import os
import re
import sys
from collections.abc import Callable
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import NoReturn

import hydra
import yaml
from hydra.core.hydra_config import HydraConfig
from hydra.errors import ConfigCompositionException, HydraException, MissingConfigException, OverrideParseException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from gan_lab.config import sweep
from gan_lab.config.resume import refuse_arguments
from gan_lab.config.targets import CONF, groups
from gan_lab.core.errors import LabError, out_of_memory, refused_by_storage
from gan_lab.core.terminal import escape_tracebacks, say

# The extra of pyproject.toml that has the plugin behind a preset, by what Hydra misses without it.
EXTRAS = {
    "'hydra/launcher/submitit_slurm'": "slurm",
    "Unknown plugin class : 'hydra_plugins.hydra_ray_launcher": "ray",
    "Could not find 'hydra/sweeper/sampler/": "optuna",
    "Unknown plugin class : 'hydra_plugins.hydra_optuna_sweeper": "optuna",
}


def command(
    config: str, after_sweep: Callable[[Path], None] | None = None
) -> Callable[[Callable[[DictConfig], None]], Callable[[], None]]:
    """Turns `main(cfg)` into a command whose configuration is `conf/<config>.yaml` plus `key=value`s.

    Args:
        after_sweep: gets the folder of a sweep (`-m`) when all its jobs have ended. None: the command makes no sweeps.

    A user's mistake (LabError, or what Hydra and OmegaConf refuse) is printed as one message, exit status 2. With
    HYDRA_FULL_ERROR=1 in the environment the traceback is shown instead.
    """

    def decorate(main: Callable[[DictConfig], None]) -> Callable[[], None]:
        def task(cfg: DictConfig) -> float | None:
            try:
                if HydraConfig.get().mode == RunMode.MULTIRUN:
                    return sweep.run_job(main, cfg, lambda error: message(error, config))
                main(cfg)
            except BrokenPipeError:
                _read_no_further()
            except Exception as error:
                if debug or not (text := message(error, config)):
                    raise
                _refuse(text, error)
            return None

        debug = os.environ.get("HYDRA_FULL_ERROR") == "1"

        def run() -> None:
            escape_tracebacks()
            os.environ["HYDRA_FULL_ERROR"] = "1"  # lets Hydra's exceptions reach us instead of its own printer
            try:
                refuse_arguments(sys.argv[1:])
                if after_sweep is None and {"-m", "--multirun"} & set(sys.argv[1:]):
                    raise LabError("Only train.py makes sweeps.", "Leave -m out.")
                hydra.main(version_base="1.3", config_path=str(CONF), config_name=config)(task)()
                sys.stdout.flush()
            except BrokenPipeError:
                _read_no_further()
            except Exception as error:
                if sweep.current:
                    sweep.current.abandon()
                if debug or not (text := message(error, config)):
                    raise
                _refuse(text, error)
            except KeyboardInterrupt:
                if sweep.current:
                    sweep.current.watch.end()
                    say(f"Go on by the same command with hydra.sweep.dir={sweep.current.folder}", stderr=True)
                say("Interrupted.", stderr=True)
                sys.exit(130)
            finally:
                if not debug:
                    del os.environ["HYDRA_FULL_ERROR"]
            if sweep.current and after_sweep:
                sys.exit(sweep.current.finish(after_sweep))

        return run

    return decorate


def _read_no_further() -> NoReturn:
    """Ends where whoever reads has enough, as in … | head; Hydra would have words for it."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(1)


def _refuse(text: str, error: Exception) -> None:
    say(text, stderr=True)
    sys.exit(error.status if isinstance(error, LabError) else 2)


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
    if type(error).__name__ in ("UncompletedJobError", "FailedJobError"):  # submitit's
        return "A Slurm job ended without a result: killed, perhaps for want of memory. More: hydra.launcher.mem_gb=…"
    if isinstance(error, ConnectionError) and "Ray cluster" in str(error):
        return f"{error}\nIs a cluster running there? hydra.launcher.ray.init.address=null starts one here."
    if refusal := refused_by_storage(error):
        return refusal
    if isinstance(error, BrokenProcessPool):
        return "A worker process was killed, by hand or for want of memory. Fewer side by side: hydra.launcher.n_jobs=1"
    if any(map(out_of_memory, chain)):
        less = "Smaller networks, a smaller batch_size or fewer samples need less."
        return f"There isn't enough memory for this: {chain[-1]}\n{less}"
    if isinstance(error, yaml.YAMLError):
        return f"A configuration can't be read: {error}"
    extra = next((extra for sign, extra in EXTRAS.items() if sign in str(error)), None)
    if extra and "Available options in 'hydra/sweeper/sampler'" not in str(error):
        return f"The plugin that this needs isn't installed. It comes with: pip install -e '.[{extra}]'"
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        group, _, option = error.missing_cfg_file.partition("/")
        folders = [Path(each) / group for each in (CONF, *re.findall("command-line, path=file://(.+)", str(error)))]
        files = ((file, folder) for folder in folders for file in folder.rglob("*.yaml"))
        options = sorted({file.relative_to(folder).with_suffix("").as_posix() for file, folder in files})
        if group == "hydra":  # its groups have two names, and options that aren't ours
            (group, _, option), options = error.missing_cfg_file.rpartition("/"), list(error.options or ())
        return f"There is no {group}={option}.{_nearest(option, options)}\nChoose from: {', '.join(options)}."
    if str(error).startswith("Error merging override metrics=["):
        return "gan_lab has no options of metrics. --config-dir=<folder> adds those of yours: docs/architecture.md."
    if isinstance(error, ConfigCompositionException):
        key = re.search(r"(?:override|Could not (?:append|delete)[^']*|for) '([^'@=]+)", str(error))
        if key and key[1] in groups():
            return f"{key[1]}: a group takes one of its options, by name; --help lists them."
        if key and "Ambiguous" not in str(error):
            return _unknown_key(key[1].lstrip("+~"), config)
    if isinstance(error, OverrideParseException):
        if "=" not in str(error.override):
            return f"Can't read '{error.override}': a setting is key=value, steps=3000, say."
        return f"Can't read '{error.override}': {chain[0]}.\nQuote values with special characters: 'key=\"a, b\"'."
    if isinstance(error, ValueError) and "Config group override" in str(error):
        said = ", ".join(arg for arg in sys.argv[1:] if arg.partition("=")[0] in groups())
        return f"{said}: a group takes one of its options, by name; --help lists them."
    if isinstance(error, (HydraException, OmegaConfBaseException)):
        told = str(error) or f"A value can't be read: {next(filter(None, map(str, chain)), type(error).__name__)}"
        return "\n".join(line for line in told.splitlines() if not line.startswith("See https://hydra"))
    return None


def _unknown_key(key: str, config: str) -> str:
    """Names the keys that stand where one was looked for, with what the command line chose and left out."""
    choices = [arg for arg in sys.argv[1:] if arg.split("=")[0] in groups() or arg.startswith("~")]
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        try:
            cfg = hydra.compose(config, choices)
        except HydraException:
            cfg = hydra.compose(config)
    parent = key.rpartition(".")[0]
    while parent and not isinstance(OmegaConf.select(cfg, parent), DictConfig):
        parent = parent.rpartition(".")[0]
    node = OmegaConf.select(cfg, parent) if parent else cfg
    name = key.removeprefix(f"{parent}.").partition(".")[0]
    keys = sorted(str(k) for k in node if not str(k).startswith("_"))
    has = f"{parent} has" if parent else "Keys and groups"
    return f"There is no key '{key}'.{_nearest(name, keys, parent)}\n{has}: {', '.join(keys) or 'nothing to set'}."


def _nearest(name: str, names: list[str], parent: str = "") -> str:
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    return f" Did you mean '{parent + '.' if parent else ''}{close[0]}'?" if close else ""
