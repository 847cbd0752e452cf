"""The page with the reports of sweeps, and the pages of runs."""

import contextlib
import os
from pathlib import Path
from urllib.parse import quote

from nicegui import ui

from gan_lab.core.command_line import command, setting
from gan_lab.core.errors import LabError
from gan_lab.core.terminal import printable
from gan_lab.studio.frame import head
from gan_lab.studio.security import REPORT_PREFIX, inside

REPORTS = {"report.html": "sweep", "index.html": "run"}
MAX_REPORTS = 300  # in the list, the newest first


def build(root: Path) -> None:
    """Builds the page.

    Args:
        root: the folder of the sweeps.
    """
    head("Compare")
    names = list_reports(root)
    if not names:
        with ui.column().classes("card w-full gap-1"):
            ui.label("There are no reports in this folder yet.").classes("font-semibold")
            ui.label("A sweep writes one, with what each remedy changed and how sure that is:")
            ui.label("python train.py -m dataset=ring remedy=[],[r1,r2] seed=0,1,2").classes("command")
            ui.label("So does, for runs that are there already:")
            ui.label(command("compare.py", setting("runs", root))).classes("command")
        return
    with ui.row().classes("card w-full items-center gap-3"):
        titles = {}
        for name in names:
            kind = REPORTS[os.path.basename(name)]
            titles[name] = f"{kind}: {printable(os.path.dirname(name)) or printable(str(root))}"
        choice = ui.select(titles, label="Report", value=names[0], with_input=True)
        choice.props("dense outlined options-dense").classes("w-[560px] max-w-full").mark("report")
        ui.label(f"{len(names):,} reports: sweeps before single runs, the newest first").classes("small")
    # A sandbox: whatever a report holds, it runs no script, sends nothing, and can't reach this page.
    frame = ui.element("iframe").classes("card w-full p-0").style("height: calc(100vh - 150px); border: 0")
    frame.props('sandbox="" referrerpolicy="no-referrer" title="report"')

    def show() -> None:
        frame.props["src"] = REPORT_PREFIX + quote(choice.value)
        frame.update()

    choice.on_value_change(show)
    show()


def list_reports(root: Path) -> list[str]:
    """Returns the names, relative to a folder, of the reports in it: those of sweeps first, each kind newest first."""
    found = []
    for folder, folders, files in os.walk(root):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for report in REPORTS:
            if report not in files:
                continue
            path = Path(folder) / report
            # A link may lead out of the folder.
            with contextlib.suppress(LabError, OSError):
                name = str(path.relative_to(root))
                inside(root, name)
                found.append((REPORTS[report] == "sweep", path.stat().st_mtime, name))
    found.sort(reverse=True)
    return [name for _, _, name in found[:MAX_REPORTS]]
