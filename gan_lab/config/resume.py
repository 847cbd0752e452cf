"""The configuration of a run: of a new one, of one that is resumed, and of one that another command opens."""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import hydra
import yaml
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from gan_lab.config.arguments import refuse_arguments
from gan_lab.config.check import check
from gan_lab.config.declarations import declared
from gan_lab.config.references import is_plain, refuse_nonplain_references, strings
from gan_lab.config.schema import is_resumable, leaves
from gan_lab.config.targets import harmless_overrides, is_known, within
from gan_lab.core.errors import LabError
from gan_lab.core.interrupts import undoing
from gan_lab.core.io import MAX_YAML, read_text, relative_path
from gan_lab.core.run_folder import Run, refuse_other_format, remove_empty


@contextmanager
def open_run(cfg: DictConfig) -> Iterator[tuple[DictConfig, Run]]:
    """Checks the configuration of a training and opens its run folder, which no other process may use.

    With `resume` the configuration is that of the run, changed by the command line. If the training can't start,
    nothing of a new run is left, and a resumed one is as it was.

    Args:
        cfg: what Hydra composed from the command line.

    Yields:
        The configuration with its references resolved, and the run.

    Raises:
        LabError: see `check`; for overrides that would make a resumed run another one; for a folder in use.
    """
    _resolve_or_discard(cfg)
    job = _job_of_sweep()
    # The sweep was interrupted and continues.
    if job and job.config.exists():
        cfg.resume = str(job.folder)
    if cfg.resume:
        with _open_resumed(cfg, is_job=job is not None) as opened:
            yield opened
    else:
        with _open_new(cfg) as opened:
            yield opened


def _resolve_or_discard(cfg: DictConfig) -> None:
    """Resolves defaults; if that fails, removes what Hydra wrote into the folder of a run that will not begin."""
    try:
        resolve_defaults(cfg, HydraConfig.get().overrides.task)
    except Exception:
        run = Run(HydraConfig.get().runtime.output_dir)
        if not run.config.exists():
            run.discard()
        raise


def _job_of_sweep() -> Run | None:
    """Returns the run folder of the job that a sweep runs; None where there is no sweep."""
    hydra_cfg = HydraConfig.get()
    if hydra_cfg.mode != RunMode.MULTIRUN:
        return None
    return Run(hydra_cfg.runtime.output_dir)


@contextmanager
def _open_new(cfg: DictConfig) -> Iterator[tuple[DictConfig, Run]]:
    """Opens a new run folder; removes what it wrote there if the training can't start."""
    run = Run.new(HydraConfig.get().runtime.output_dir, OmegaConf.to_yaml(cfg))
    try:
        with undoing(run.discard):
            resolved = check(cfg)
            _refuse_misplaced(resolved, HydraConfig.get().overrides.task)
            yield resolved, run
            # The run keeps the number of threads that threads=auto chose.
            if cfg.threads != resolved.threads:
                cfg.threads = resolved.threads
                run.write_config(OmegaConf.to_yaml(cfg))
    except BaseException:
        run.discard()
        raise


@contextmanager
def _open_resumed(cfg: DictConfig, is_job: bool) -> Iterator[tuple[DictConfig, Run]]:
    """Opens the folder of a run that continues, by `resume=…` or as a job of a sweep."""
    overrides = HydraConfig.get().overrides.task
    _refuse_misplaced(check(cfg), overrides)
    run = Run.existing(cfg.resume)
    run.claim()
    try:
        before = _read_of(run, cfg.trust)
        check(before)
        after = _same_job(before, cfg) if is_job else _changed(before, run, overrides, cfg.force)
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
    """Yields the folder that Hydra made for the files of a command, and removes it if nothing was written."""
    folder = Path(HydraConfig.get().runtime.output_dir)
    try:
        yield relative_path(folder)
    finally:
        remove_empty(folder)


@contextmanager
def open_check(cfg: DictConfig) -> Iterator[tuple[DictConfig, Path]]:
    """Checks the configuration of a training without starting it.

    Yields:
        The configuration with its references resolved, and a folder for files, which is removed if nothing was written.

    Raises:
        LabError: see `check`; for `resume` and `force`, which only a training has.
    """
    overrides = HydraConfig.get().overrides.task
    with output_folder() as folder:
        if cfg.resume:
            raise LabError(
                "resume goes with train.py only.",
                "Leave it out: a run's settings were its overrides.",
                code="conflict",
                key="resume",
            )
        resolve_defaults(cfg, overrides)
        resolved = check(cfg)
        _refuse_misplaced(resolved, overrides)
        yield resolved, folder


def load_config(
    run: Run, trust: Sequence[str] = (), data_dir: str | None = None, data_path: str | None = None
) -> DictConfig:
    """Reads the configuration of a run, and checks it like one from the command line.

    Args:
        run: the run.
        trust: what the command line trusts. What the file itself would trust doesn't count.
        data_dir: where the data lie, if not where the run had them.
        data_path: the packed file, if not where the run had it.

    Returns:
        The configuration with its references resolved.

    Raises:
        LabError: if it can't be read, is of another version, or holds what no training can have.
    """
    cfg = _read_of(run, trust)
    if data_dir is not None:
        cfg.data_dir = data_dir
    if data_path is not None:
        OmegaConf.update(cfg, "data.path", data_path, force_add=True)
        # Where it isn't a reference to data.path.
        if OmegaConf.select(cfg, "dataset.path") is not None:
            cfg.dataset.path = data_path
    with _named(run.config):
        return check(cfg)


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Lets errors about a configuration name its file."""
    try:
        yield
    except LabError as error:
        raise LabError(f"{path} can't be used: {error}", code=error.code, key=error.key) from error
    except OmegaConfBaseException as error:
        raise LabError(f"{path} can't be used: {error}", code="damaged", key=path.name) from error


def _read_of(run: Run, trust: Sequence[str]) -> DictConfig:
    """Returns what a run's config.yaml holds, unchecked, with its references; `trust` is the command line's."""
    with _named(run.config):
        cfg = _read(run.config)
    refuse_other_format(run.config, _raw(cfg))
    cfg.trust = list(trust)
    return cfg


def _read(path: Path) -> DictConfig:
    """Reads an untrusted YAML file: of bounded size, without aliases, with plain references only."""
    try:
        text = read_text(path, MAX_YAML)
        events = list(yaml.parse(text, yaml.SafeLoader))
        # Aliases can make a short text unfold without end.
        if any(isinstance(event, yaml.AliasEvent) for event in events):
            raise LabError("It uses YAML aliases, which gan_lab never writes.", code="damaged", key=path.name)
        # After the start of the stream and of the document.
        is_mapping = len(events) > 2 and isinstance(events[2], yaml.MappingStartEvent)
        if not is_mapping:
            raise LabError("It is no configuration.", code="damaged", key=path.name)
        cfg = OmegaConf.create(text)
        if not isinstance(cfg, DictConfig):
            raise LabError("It is no configuration.", code="damaged", key=path.name)
        refuse_nonplain_references(_raw(cfg))
        return cfg
    except (OSError, LabError):
        raise
    except Exception as error:
        # Untrusted YAML can raise errors of many types.
        raise LabError(str(error) or type(error).__name__, code="damaged", key=path.name) from error


def _refuse_misplaced(cfg: DictConfig, overrides: Sequence[str]) -> None:
    """Refuses `force` without `resume`, and a `trust` that comes from a file."""
    if cfg.force and not cfg.resume:
        raise LabError(
            "force=true goes with resume=<run folder> only.",
            "Leave it out: a new run needs no force.",
            code="conflict",
            key="force",
        )
    on_command_line = any(override.lstrip("+").startswith("trust=") for override in overrides)
    if cfg.trust and not on_command_line:
        raise LabError(
            "trust counts on the command line only.",
            "A file cannot declare itself trusted.",
            code="foreign",
            key="trust",
        )


def _changed(before: DictConfig, run: Run, overrides: Sequence[str], force: bool) -> DictConfig:
    """Returns the configuration of a resumed run: its own, changed by overrides that are harmless or forced."""
    # How it is resumed is no setting of the run.
    keys_of_resuming = ("resume", "force", "trust")
    overrides = [override for override in overrides if override.partition("=")[0] not in keys_of_resuming]
    if not overrides:
        return before
    plain, changed = _composed_with(run, overrides)
    named = [override.partition("=")[0].lstrip("+~").replace("/", ".") for override in overrides]
    after = before.copy()
    flat = _flat(before)
    for key in plain.keys() | changed.keys() | flat.keys():
        if not within(key, named) and plain.get(key) == changed.get(key):
            continue
        if key in changed:
            OmegaConf.update(after, key, changed[key], force_add=True)
        else:
            _remove(after, key)
    _resolve_nonplain_references(after)
    # That of this command line; what started the run doesn't count.
    after.trust = before.trust
    if not force:
        _refuse_other_settings(run, before, after)
    return after


def _composed_with(run: Run, overrides: Sequence[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Composes train.yaml with the overrides that started a run, without and with further ones; flat."""
    started_by = harmless_overrides(run.overrides())
    try:
        refuse_arguments(started_by)
        return _composed(started_by), _composed([*started_by, *overrides])
    except (LabError, HydraException, OmegaConfBaseException, RecursionError):
        # The run was started with options that no longer exist.
        return _composed([]), _composed(overrides)


def _same_job(before: DictConfig, cfg: DictConfig) -> DictConfig:
    """Returns the configuration of a sweep's job that continues: the same as before, for the sweep is the same."""
    after = cfg.copy()
    run = Run(cfg.resume)
    after.resume = before.resume
    # With auto or tune the run keeps the number that was chosen.
    if isinstance(after.threads, str):
        after.threads = before.threads
    _refuse_other_settings(run, before, after)
    return after


def resolve_defaults(cfg: DictConfig, overrides: Sequence[str]) -> None:
    """Puts values for what depends on other choices into a composed configuration.

    `norm=auto` becomes the normalisation of the model, which a run keeps, and `strength` the settings of the remedies
    that it stands for. What an experiment sets of remedies and callbacks that the command line leaves out is left out,
    too. References to anything but other keys are resolved.

    Args:
        cfg: as composed; it is changed.
        overrides: those that it was composed with.

    Raises:
        LabError: if the model has no `auto_norm`, or no remedy the strength.
    """
    if OmegaConf.is_dict(cfg.get("norm")) and "_target_" in cfg.norm:
        try:
            cfg.norm._target_ = cfg.norm._target_
        except OmegaConfBaseException as error:
            raise LabError(
                "norm=auto: this model has no auto_norm.", "Say norm=layer, for example.", code="missing", key="norm"
            ) from error
    for group in ("remedy", "callbacks"):
        _leave_out_unchosen(cfg, group, overrides)
    if "strength" in cfg:
        _set_strength(cfg, overrides)
    _resolve_nonplain_references(cfg)


def _set_strength(cfg: DictConfig, overrides: Sequence[str]) -> None:
    """Replaces `strength` by the settings that the chosen remedies declare for it, unless the command line sets them.

    Whatever is no strength, or no remedy, remains for `check` to refuse.

    Raises:
        LabError: if none of the remedies has this strength.
    """
    if cfg.strength not in ("weak", "strong") or not OmegaConf.is_dict(cfg.remedy):
        return
    changed = []
    for name, node in cfg.remedy.items():
        if not OmegaConf.is_dict(node) or not is_known(str(node.get("_target_"))):
            continue
        for key, value in getattr(declared(node._target_), cfg.strength).items():
            setting = f"remedy.{name}.{key}"
            changed.append(setting)
            if not any(override.startswith(f"{setting}=") for override in overrides):
                node[key] = value
    if not changed:
        raise LabError(
            f"strength={cfg.strength}: no remedy here has such a setting.",
            "Leave it out, or name a remedy with one, for example remedy=[r1,weak].",
            code="conflict",
            key="strength",
        )
    # The settings say it now; when the run is resumed, there is nothing left to replace.
    cfg.strength = None


def _leave_out_unchosen(cfg: DictConfig, group: str, overrides: Sequence[str]) -> None:
    """Removes what an experiment sets of parts that the command line leaves out by `remedy=[]` or `callbacks=none`.

    Such a part has settings but no `_target_`, which only its option has. One that the overrides themselves set, or
    that nobody left out, remains, for `check` to refuse.
    """
    parts = cfg.get(group)
    is_changed = any(re.match(rf"[+~]*{group}([@=.]|$)", override) for override in overrides)
    if not OmegaConf.is_dict(parts) or not is_changed:
        return
    for name, node in list(parts.items()):
        is_chosen = not OmegaConf.is_dict(node) or not node or "_target_" in node
        is_set = any(override.lstrip("+~").startswith(f"{group}.{name}.") for override in overrides)
        if not is_chosen and not is_set:
            with open_dict(parts):
                del parts[name]


def _resolve_nonplain_references(cfg: DictConfig) -> None:
    """Replaces references that a run's config.yaml may not have, such as `${oc.env:HOME}`, by their values now.

    References to other keys stay: resuming with another data_dir, for example, then changes all that refer to it.
    """
    for key, text in strings(_raw(cfg)):
        is_reference_to_target = "${" in text and key.endswith("_target_")
        if is_reference_to_target or not is_plain(text):
            OmegaConf.update(cfg, key, OmegaConf.select(cfg, key))


def _refuse_other_settings(run: Run, before: DictConfig, after: DictConfig) -> None:
    """Refuses to continue a run with settings that would make the steps so far those of another run."""
    old = _flat(before)
    new = _flat(after)
    differing = sorted(key for key in old.keys() | new.keys() if old.get(key) != new.get(key))
    harmful = [key for key in differing if not is_resumable(key)]
    if harmful:
        lines = [f"  {key}: {old.get(key, 'not set')} → {new.get(key, 'not set')}" for key in differing]
        raise LabError(
            "\n".join([f"{run.folder} was trained with other settings:", *lines]),
            "Leave them out and it continues as it was, or start a new run. force=true continues with the new ones.",
            code="conflict",
            key=harmful[0],
        )


def _composed(overrides: Sequence[str]) -> dict[str, Any]:
    """Composes train.yaml with overrides; flat."""
    # The command has initialised Hydra.
    return _flat(hydra.compose("train", list(overrides)))


def _raw(cfg: DictConfig) -> dict[str, Any]:
    """Returns a configuration as nested dicts, its references as texts."""
    content: Any = OmegaConf.to_container(cfg)
    return content


def _flat(cfg: DictConfig) -> dict[str, Any]:
    """Returns each value by its dotted key, Hydra's own keys (`_target_`, …) included."""
    return dict(leaves(_raw(cfg), private=True))


def _remove(cfg: DictConfig, key: str) -> None:
    """Removes a dotted key, if it is there."""
    parent, _, name = key.rpartition(".")
    node: Any = cfg
    if parent:
        node = OmegaConf.select(cfg, parent)
    if isinstance(node, DictConfig):
        node.pop(name, None)
