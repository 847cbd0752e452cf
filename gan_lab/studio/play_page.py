"""The page on which one plays with the latent vectors of a finished run."""

import asyncio
import contextlib
import functools
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from nicegui import ui

from gan_lab.comparison.collect import find_runs
from gan_lab.core.errors import LabError
from gan_lab.core.run_folder import Run
from gan_lab.core.terminal import printable
from gan_lab.studio import drawing
from gan_lab.studio.frame import head, show_problem
from gan_lab.studio.security import inside

if TYPE_CHECKING:
    from gan_lab.studio.play import Player, Shown

MAX_RUNS = 300  # in the list, the newest first
SLIDERS = 12  # single numbers of z
SIDE = 130  # pixels of a picture
MIDDLE_COLOUR = "#7c3aed"
A_COLOUR = "#059669"
B_COLOUR = "#d97706"


async def build(root: Path, cache_dir: Path, name: str) -> None:
    """Builds the page.

    Args:
        root: the folder of the runs.
        cache_dir: the folder of trained label classifiers.
        name: of the run that is opened, relative to the folder; "": none.
    """
    head("Play")
    names = list_runs(root)
    with ui.row().classes("card w-full items-center gap-3"):
        choice = ui.select(
            {run_name: printable(run_name) for run_name in names},
            label="Run",
            value=name if name in names else None,
            with_input=True,
            on_change=lambda event: ui.navigate.to(_address(event.value)),
        )
        choice.props("dense outlined options-dense").classes("w-[440px] max-w-full").mark("run")
        ui.label(f"{len(names):,} runs with a checkpoint in this folder").classes("small")
    if not name:
        with ui.column().classes("card w-full"):
            ui.label("Every latent vector z becomes a sample G(z). What lies between two of them? What is their sum?")
            ui.label("Choose a run above; train one on the page Train if there is none.").classes("small")
        return
    with ui.row().classes("card w-full items-center gap-3") as waiting:
        ui.spinner(size="md")
        ui.label("Loading the run; for images that are new here, a label classifier is trained first.")
    await ui.context.client.connected()
    try:
        player = await asyncio.to_thread(open_player, root, name, cache_dir)
    except LabError as error:
        waiting.clear()
        with waiting:
            ui.label(str(error)).classes("problem w-full")
        return
    waiting.delete()
    page = _Play(player)
    await page.show()


def list_runs(root: Path) -> list[str]:
    """Returns the names, relative to a folder, of the runs in it that have a checkpoint, the newest first."""
    found = []
    for found_run in find_runs(root):
        # A link may lead out of the folder.
        with contextlib.suppress(LabError, OSError):
            name = str(found_run.folder.relative_to(root))
            inside(root, name)
            found.append((found_run.checkpoint.stat().st_mtime, name))
    found.sort(reverse=True)
    return [name for _, name in found[:MAX_RUNS]]


def open_player(root: Path, name: str, cache_dir: Path) -> "Player":
    """Loads a run below a folder; the last two stay in memory.

    Raises:
        LabError: if there is none of that name, or if it can't be loaded.
    """
    folder = inside(root, name)
    opened = Run.existing(folder)
    if not opened.checkpoint.is_file():
        raise LabError(f"{printable(name)} has no checkpoint.", code="missing", key=opened.checkpoint.name)
    return _player(folder, opened.checkpoint.stat().st_mtime_ns, cache_dir)


@functools.lru_cache(maxsize=2)
def _player(folder: Path, written: int, cache_dir: Path) -> "Player":
    """Loads the run in a folder, whose checkpoint was written at that time."""
    from gan_lab.core.imports import quick_imports

    with quick_imports():
        from gan_lab.studio.play import Player
    return Player(Run.existing(folder), cache_dir)


def _address(name: str | None) -> str:
    return "/play?" + urlencode({"run": name}) if name else "/play"


class _Play:
    """The experiments with a run."""

    def __init__(self, player: "Player"):
        self.player = player
        with ui.row().classes("card w-full items-center gap-3"):
            self.a = ui.input("a", value="1").props("dense outlined").classes("w-28").mark("a")
            self.b = ui.input("b", value="2").props("dense outlined").classes("w-28").mark("b")
            ui.button("Show", on_click=self.show).props("no-caps color=primary")
            words = "A number stands for the latent vector with that seed"
            if player.predictor.can_predict:
                first = printable(player.predictor.class_name(0))
                words += f"; by name you get the first vector that makes one of a class, such as {first}"
                if player.are_images and len(player.dataset.classes) == 10:
                    words += " or five"
            ui.label(f"{words}.").classes("small grow")
        with ui.row().classes("w-full gap-3 items-start"):
            with ui.column().classes("card gap-1 grow basis-0 min-w-[420px] max-md:min-w-full"):
                ui.label("From a to b").classes("font-semibold")
                self.between = ui.row().classes("w-full gap-3 items-start")
                self.slider = (
                    ui.slider(min=0, max=1, step=1, value=0, on_change=self._move).props("label-always").classes("mt-5")
                )
                self.slider.mark("between")
                ui.label("Drag: the samples of the latent vectors on the straight line from a to b.").classes("small")
                self.near = ui.row().classes("w-full gap-3 items-start")
            with ui.column().classes("card gap-1 grow basis-0 min-w-[420px] max-md:min-w-full"):
                ui.label("Sum and difference").classes("font-semibold")
                self.arithmetic = ui.row().classes("w-full gap-3 items-start")
                ui.label(
                    "A sum of latent vectors is longer than most that G was trained on; “normalised” has the "
                    "usual length."
                ).classes("small")
        with ui.column().classes("card w-full gap-1"):
            ui.label("Single numbers of z, beginning at a").classes("font-semibold")
            with ui.row().classes("w-full gap-4 items-start no-wrap max-md:flex-wrap"):
                self.single = ui.column().classes("gap-1 w-[260px] shrink-0")
                self.sliders = ui.column().classes("gap-0 grow")

    async def show(self) -> None:
        """Makes all experiments with the a and b that are typed in."""
        a = self.a.value.strip()
        b = self.b.value.strip()
        try:
            self.path = await asyncio.to_thread(self.player.experiment, "interpolate", a, b)
        except LabError as error:
            show_problem(str(error))
            return
        self.slider.props(f"max={len(self.path.names) - 1}")
        self.slider.set_value(len(self.path.names) // 2)
        await self._move()
        await self._calculate(a, b)
        self.z = self.path.z[:1].clone()
        self._build_sliders()
        await self._show_single()

    async def _calculate(self, a: str, b: str) -> None:
        """Shows sum and difference."""
        self.arithmetic.clear()
        for op in ("add", "subtract"):
            try:
                shown = await asyncio.to_thread(self.player.experiment, op, a, b)
            except LabError as error:
                with self.arithmetic:
                    ui.label(str(error)).classes("problem")
                return
            with self.arithmetic:
                for number in range(2, len(shown.names)):
                    self._sample(shown, number)

    async def _move(self) -> None:
        """Shows the sample at the slider's place, and the training images that are nearest to it."""
        number = int(self.slider.value)
        last = len(self.path.names) - 1
        self.slider.props(f'label-value="{number / last:.2f}"')
        self.between.clear()
        with self.between:
            if self.path.points is not None:
                self._plane(self.path, number)
            else:
                for index, name in ((0, "a"), (number, f"{number / last:.2f}"), (last, "b")):
                    self._sample(self.path, index, name)
        if self.player.are_images:
            nearest = await asyncio.to_thread(self.player.nearest, self.path.samples[[0, number, last]])
            self.near.clear()
            with self.near:
                for picture, name in zip(nearest, ("a", "this one", "b"), strict=True):
                    with ui.column().classes("gap-0 items-center"):
                        ui.html(drawing.image(picture, SIDE // 2), sanitize=False)
                        ui.label(f"nearest to {name}").classes("small")

    def _sample(self, shown: "Shown", number: int, name: str = "") -> None:
        """Shows one sample with what is known of it."""
        with ui.column().classes("gap-0 items-center").mark("sample"):
            if shown.points is not None:
                content = drawing.plane(
                    self.player.window,
                    self.player.real,
                    shown.points[:0],
                    marks=[
                        (shown.points[0], A_COLOUR),
                        (shown.points[1], B_COLOUR),
                        (shown.points[number], MIDDLE_COLOUR),
                    ],
                )
                ui.html(content, sanitize=False).classes("w-[130px]")
            else:
                ui.html(drawing.image(shown.pictures[number], SIDE), sanitize=False)
            ui.label(name or shown.names[number]).classes("text-sm font-semibold")
            for line in self._facts(shown, number):
                ui.label(line).classes("small")

    def _facts(self, shown: "Shown", number: int) -> list[str]:
        """Returns what is known of a sample, in lines."""
        lines = []
        if shown.labels[number]:
            lines.append(f"looks like: {printable(shown.labels[number])}")
        if shown.answers is not None:
            kind = "D: real with" if self.player.module.loss.d_output_is_probability else "D's score"
            value = shown.answers[number]
            lines.append(f"{kind} {value:.0%}" if "real" in kind else f"{kind} {value:.2f}")
        lines.append(f"length of z: {shown.lengths[number]:.1f}")
        return lines

    def _plane(self, shown: "Shown", number: int) -> None:
        """Shows the path of points from a to b."""
        assert shown.points is not None
        marks = [
            (shown.points[0], A_COLOUR),
            (shown.points[-1], B_COLOUR),
            (shown.points[number], MIDDLE_COLOUR),
        ]
        svg = drawing.plane(self.player.window, self.player.real, shown.points[:0], path=shown.points, marks=marks)
        with ui.column().classes("gap-0 w-full max-w-[380px]").mark("sample"):
            ui.html(svg, sanitize=False).classes("w-full")
            ui.html(
                f'<span style="color:{A_COLOUR}">● a</span> &nbsp; <span style="color:{B_COLOUR}">● b</span> &nbsp; '
                f'<span style="color:{MIDDLE_COLOUR}">● here</span> &nbsp; blue: real points',
                sanitize=False,
            ).classes("small")
            ui.label(" · ".join(self._facts(shown, number))).classes("small")

    def _build_sliders(self) -> None:
        """Builds a slider for each of the first numbers of z."""
        self.sliders.clear()
        count = min(SLIDERS, self.player.noise_dim)
        with self.sliders:
            if count < self.player.noise_dim:
                ui.label(f"the first {count} of {self.player.noise_dim} numbers").classes("small")
            with ui.grid(columns=2).classes("w-full gap-x-6 gap-y-0"):
                for index in range(count):
                    value = round(float(self.z[0, index]), 2)
                    limit = max(3.0, abs(value))
                    with ui.row().classes("w-full no-wrap items-center gap-2"):
                        ui.label(f"z{index + 1}").classes("small w-7")
                        change = functools.partial(self._change, index)
                        slider = ui.slider(min=-limit, max=limit, step=0.01, value=value, on_change=change)
                        slider.props("label dense").classes("grow").mark(f"z{index + 1}")

    async def _change(self, index: int, event: Any) -> None:
        self.z[0, index] = float(event.value)
        await self._show_single()

    async def _show_single(self) -> None:
        """Shows the sample of the z that the sliders make."""
        shown = await asyncio.to_thread(self.player.sample, self.z.clone())
        self.single.clear()
        with self.single:
            if shown.points is not None:
                svg = drawing.plane(
                    self.player.window, self.player.real, shown.points[:0], marks=[(shown.points[0], MIDDLE_COLOUR)]
                )
                ui.html(svg, sanitize=False).classes("w-full")
            else:
                ui.html(drawing.image(shown.pictures[0], SIDE), sanitize=False)
            ui.label(" · ".join(self._facts(shown, 0))).classes("small")
