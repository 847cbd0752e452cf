"""The command `gan-lab`: `gan-lab train loss=bce` is what `python train.py loss=bce` is in a clone."""

import runpy
import sys
from pathlib import Path

from gan_lab.core.installation import commands, script
from gan_lab.core.terminal import say

USAGE_ERROR = 2  # exit status
HELP = ("", "-h", "--help", "help")
COMPLETION = "completion"


def main() -> None:
    """Runs the command that the first argument names, with the other arguments."""
    name = sys.argv[1] if len(sys.argv) > 1 else ""
    if name in HELP:
        say(_help_text())
        return
    if name == COMPLETION:
        say(_completion(sys.argv[2:]))
        return
    if name not in commands():
        say(f"gan-lab has no command {name!r}.\nIts commands: {', '.join(commands())}.", stderr=True)
        sys.exit(USAGE_ERROR)
    path = str(script(name))
    sys.argv = [path, *sys.argv[2:]]
    runpy.run_path(path, run_name="__main__")


def _help_text() -> str:
    from gan_lab.config.help import description

    lines = ["usage: gan-lab <command> [key=value …]", "", "Commands, each explained by gan-lab <command> --help:"]
    width = max(map(len, [*commands(), COMPLETION]))
    for name in commands():
        lines.append(f"  {name:<{width}}  {description(name)}")
    lines += ["", f'  {COMPLETION:<{width}}  completes commands and settings in bash: eval "$(gan-lab {COMPLETION})"']
    return "\n".join(lines)


def _completion(arguments: list[str]) -> str:
    """Returns what bash runs to complete a command line; with `commands` the names of all commands."""
    if arguments == ["commands"]:
        return " ".join([*commands(), COMPLETION])
    return Path(__file__).with_name("completion.bash").read_text(encoding="utf-8").rstrip("\n")


if __name__ == "__main__":
    main()
