"""A command's configuration: the one a resumed run goes on with, and the folder that a run goes to."""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import hydra
import yaml
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from gan_lab.config import folders  # noqa: F401, makes the resolvers of hydra.run.dir
from gan_lab.config.references import is_plain, refuse_odd, strings
from gan_lab.config.schema import check, leaves
from gan_lab.config.targets import groups, harmless_overrides, within
from gan_lab.core.errors import LabError
from gan_lab.core.io import MAX_YAML, read_text
from gan_lab.core.run_folder import Run, remove_empty

# What may change when a run goes on: it alters no step taken so far. The rest needs force=true.
HARMLESS = {"steps", "threads", "devices", "num_nodes", "workers", "compile", "objective", "preflight"}
HARMLESS |= {"data_dir", "data.path", "dataset.memory", "cache_dir", "metrics"}

# What runs of older versions don't say.
SINCE: dict[str, Any] = {"replicas": 1, "n_critic": 1, "n_generator": 1, "conditional": False}
SINCE |= {"remedy": {}, "metrics": {}}


@contextmanager
def open_run(cfg: DictConfig) -> Iterator[tuple[DictConfig, Run]]:
    """Checks a command's configuration and gives it, resolved, with the run's folder, which no other process has.

    If starting fails, nothing of it is left. With `resume` the configuration is the run's own, and the folder keeps
    whatever it held.

    Raises:
        LabError: see `check`; for overrides that would make a resumed run another one; for a folder in use.
    """
    hydra_cfg = HydraConfig.get()
    overrides = hydra_cfg.overrides.task
    job = Run(hydra_cfg.runtime.output_dir) if hydra_cfg.mode == RunMode.MULTIRUN else None
    resolve_defaults(cfg, overrides)
    if job and job.config.exists():  # an interrupted sweep goes on
        cfg.resume = str(job.folder)
    if not cfg.resume:
        run = Run.new(HydraConfig.get().runtime.output_dir, OmegaConf.to_yaml(cfg))
        try:
            resolved = check(cfg)
            _refuse_misplaced(resolved, overrides)
            yield resolved, run
            if cfg.threads != resolved.threads:  # what building has settled
                cfg.threads = resolved.threads
                run.write_config(OmegaConf.to_yaml(cfg))
        except BaseException:
            run.discard()
            raise
        return
    _refuse_misplaced(check(cfg), overrides)
    run = Run.existing(cfg.resume)
    run.claim()
    try:
        before = _content(run, cfg.trust)
        check(before)
        after = _asked_again(before, cfg) if job else _resumed(before, run, overrides, cfg.force)
        resolved = check(after)
        resolved.force = cfg.force
        yield resolved, run
        after.threads = resolved.threads
        if after != before:
            run.write_config(OmegaConf.to_yaml(after), keep=cfg.force)
    except BaseException:
        run.release()
        raise


@contextmanager
def output_folder() -> Iterator[Path]:
    """The folder that Hydra made for what a command writes; if nothing was written, it is removed."""
    folder = Path(HydraConfig.get().runtime.output_dir)
    try:
        yield folder.relative_to(Path.cwd()) if folder.is_relative_to(Path.cwd()) else folder
    finally:
        remove_empty(folder)


@contextmanager
def checking(cfg: DictConfig) -> Iterator[tuple[DictConfig, Path]]:
    """Checks a configuration that isn't trained, and gives it, resolved, with the folder for what is found; if that
    fails, none is left.

    Raises:
        LabError: see `check`; for `resume` and `force`, which a training alone has.
    """
    with output_folder() as folder:
        if cfg.resume:
            raise LabError("resume goes with train.py only.", "Leave it out: a run's settings were its overrides.")
        resolve_defaults(cfg, HydraConfig.get().overrides.task)
        resolved = check(cfg)
        _refuse_misplaced(resolved, HydraConfig.get().overrides.task)
        yield resolved, folder


def stored(
    run: Run, trust: Sequence[str] = (), data_dir: str | None = None, data_path: str | None = None
) -> DictConfig:
    """Reads a run's configuration, resolved and checked like one from the command line.

    Args:
        trust: what the command line trusts; what the file itself would trust doesn't count.
        data_dir, data_path: where the data lie (`data_path`: a packed file), if not where the run had them.

    Raises:
        LabError: if it can't be read, or holds what no training can have.
    """
    cfg = _content(run, trust)
    if data_dir is not None:
        cfg.data_dir = data_dir
    if data_path is not None:
        OmegaConf.update(cfg, "data.path", data_path, force_add=True)
    try:
        return check(cfg)
    except (LabError, OmegaConfBaseException) as error:
        raise LabError(f"{run.config} can't be used: {error}") from error


def _content(run: Run, trust: Sequence[str]) -> DictConfig:
    """Returns what a run's config.yaml holds, its references among its own keys as they stand there; unchecked."""
    try:
        cfg = _read(run.config)
        cfg.trust = list(trust)
        for key, value in SINCE.items():  # which runs of older versions don't have
            cfg.setdefault(key, value)
    except (LabError, OmegaConfBaseException) as error:
        raise LabError(f"{run.config} can't be used: {error}") from error
    return cfg


def _read(path: Path) -> DictConfig:
    try:
        text = read_text(path, MAX_YAML)
        events = list(yaml.parse(text, yaml.SafeLoader))
        if any(isinstance(event, yaml.AliasEvent) for event in events):  # they can unfold without end
            raise LabError("It uses YAML aliases, which gan_lab never writes.")
        if len(events) < 3 or not isinstance(
            events[2], yaml.MappingStartEvent
        ):  # behind the stream's and the document's start
            raise LabError("It is no configuration.")
        cfg: DictConfig = OmegaConf.create(text)  # type: ignore[assignment]
        refuse_odd(OmegaConf.to_container(cfg))  # type: ignore[arg-type]
        return cfg
    except OSError:
        raise
    except Exception as error:  # what can be wrong with a stranger's YAML has many types
        raise LabError(str(error) or type(error).__name__) from error


def _refuse_misplaced(cfg: DictConfig, overrides: Sequence[str]) -> None:
    if cfg.force and not cfg.resume:
        raise LabError("force=true goes with resume=<run folder> only.", "Leave it out: a new run needs no force.")
    if cfg.trust and not any(each.lstrip("+").startswith("trust=") for each in overrides):
        raise LabError("trust counts on the command line only.", "A file can't vouch for itself.")


def refuse_arguments(arguments: Sequence[str]) -> None:
    """Refuses what Hydra would take in silence, before it does.

    Raises:
        LabError: for `hydra.run.dir=<a run>`, where Hydra would write; for `<group>={}`, which changes nothing; for a
            list in the place of an option that holds anything but names.
    """
    resuming = any(argument.startswith("resume=") and argument != "resume=null" for argument in arguments)
    for argument in arguments:
        if "=" in argument and not argument.partition("=")[0].strip("+~ ").partition("@")[0]:
            raise LabError(f"{argument} names no key.", "Say key=value; --help lists the keys.")
        if argument.startswith("hydra.run.dir="):
            if resuming:
                raise LabError("A resumed run stays in its folder.", "Leave hydra.run.dir=… out.")
            Run(argument.partition("=")[2]).refuse_if_taken()
        empty = re.fullmatch(r"(\w+)=\{\s*\}", argument)
        if empty and empty[1] in groups():
            raise LabError(f"{argument} changes nothing.", f"Leave single entries out, as in ~{empty[1]}.<name>.")
        group, _, option = argument.partition("=")
        if group in groups() and option.startswith("["):
            with suppress(HydraException):  # what can't be read is told by Hydra
                chosen = OverridesParser.create().parse_override(argument).value()
                if isinstance(chosen, list) and not all(isinstance(each, str) for each in chosen):
                    raise LabError(f"{argument}: a group takes one of its options, by name.", "--help lists them.")


def _resumed(before: DictConfig, run: Run, overrides: Sequence[str], force: bool) -> DictConfig:
    """What a run goes on with: its own configuration, changed by overrides where that is harmless or forced."""
    overrides = [each for each in overrides if each.partition("=")[0] not in ("resume", "force", "trust")]
    if not overrides:
        return before
    own = harmless_overrides(run.overrides())
    try:
        refuse_arguments(own)
        plain, changed = _composed(own), _composed([*own, *overrides])
    except (LabError, HydraException, OmegaConfBaseException, RecursionError):  # no longer known here
        plain, changed = _composed([]), _composed(overrides)
    named = [each.partition("=")[0].lstrip("+~").replace("/", ".") for each in overrides]
    after, kept = before.copy(), _flat(before)
    for key in plain.keys() | changed.keys() | kept.keys():
        if within(key, named) or plain.get(key) != changed.get(key):
            if key in changed:
                OmegaConf.update(after, key, changed[key], force_add=True)
            else:
                _remove(after, key)
    _resolve_odd(after)
    after.trust = before.trust  # the command line's
    if not force:
        _refuse_other(run, before, after)
    return after


def _asked_again(before: DictConfig, cfg: DictConfig) -> DictConfig:
    """What a sweep's job goes on with: the same as before, for that is what the sweep asks for."""
    after = cfg.copy()
    after.resume, run = before.resume, Run(cfg.resume)
    if isinstance(after.threads, str):  # auto or tune: the run keeps to what that meant when it began
        after.threads = before.threads
    _refuse_other(run, before, after)
    return after


def resolve_defaults(cfg: DictConfig, overrides: Sequence[str]) -> None:
    """Puts what `norm=auto` stands for with this model in its place, which a run keeps to, leaves out what an
    experiment says of remedies that aren't chosen, and resolves references to anything but other keys.

    Raises:
        LabError: if the model doesn't say; if the overrides themselves set a remedy that isn't chosen.
    """
    if OmegaConf.is_dict(cfg.get("norm")) and "_target_" in cfg.norm:
        try:
            cfg.norm._target_ = cfg.norm._target_
        except OmegaConfBaseException as error:
            raise LabError("This model doesn't say what its auto_norm is.", "Say norm=layer, for example.") from error
    remedies = cfg.get("remedy")
    for name, node in list(remedies.items()) if OmegaConf.is_dict(remedies) else []:
        if OmegaConf.is_dict(node) and node and "_target_" not in node:
            if any(each.lstrip("+~").startswith(f"remedy.{name}.") for each in overrides):
                raise LabError(f"remedy.{name} isn't chosen.", f"Say remedy=[{name}], with others if there are any.")
            with open_dict(remedies):
                del remedies[name]
    _resolve_odd(cfg)


def _resolve_odd(cfg: DictConfig) -> None:
    """Replaces references that a run's config.yaml may not have, such as `${oc.env:HOME}`, by what they give now.

    References to other keys stay: resuming with another data_dir, say, then changes all that refer to it.
    """
    raw = OmegaConf.to_container(cfg)
    for key, text in strings(raw):
        if not is_plain(text) or ("${" in text and key.endswith("_target_")):
            OmegaConf.update(cfg, key, OmegaConf.select(cfg, key))


def _refuse_other(run: Run, before: DictConfig, after: DictConfig) -> None:
    kept, new = _flat(before), _flat(after)
    differing = {key for key in kept.keys() | new.keys() if kept.get(key) != new.get(key)}
    if any(not within(key, HARMLESS) for key in differing):
        lines = [f"  {key}: {kept.get(key, 'not set')} → {new.get(key, 'not set')}" for key in sorted(differing)]
        raise LabError(
            "\n".join([f"{run.folder} was trained with other settings:", *lines]),
            "Leave them out and it goes on as it was, or start a new run. force=true makes it go on with the new ones.",
        )


def _composed(overrides: Sequence[str]) -> dict[str, Any]:
    return _flat(hydra.compose("train", list(overrides)))  # the command has initialised Hydra


def _flat(cfg: DictConfig) -> dict[str, Any]:
    """Each value with its dotted key, what is to be made included."""
    return dict(leaves(OmegaConf.to_container(cfg), private=True))


def _remove(cfg: DictConfig, key: str) -> None:
    parent, _, name = key.rpartition(".")
    node = OmegaConf.select(cfg, parent) if parent else cfg
    if isinstance(node, DictConfig):
        node.pop(name, None)
