"""The page on which a training is chosen, started and watched."""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from nicegui import ui

from gan_lab.core.errors import LabError
from gan_lab.studio import choices, drawing
from gan_lab.studio.choices import Offer
from gan_lab.studio.frame import head, show_problem
from gan_lab.studio.messages import Glance, Opened, PhaseReport
from gan_lab.studio.trainings import LiveTraining, Trainings
from gan_lab.training.phases import PHASE_D_FAKE, PHASE_D_JOINT, PHASE_D_REAL, PHASE_G

REFRESH_SECONDS = 0.2
REFRESHES_PER_CURVE = 4  # curves are drawn only with every fourth refresh

SPEEDS = {"1": 1.0, "10": 10.0, "100": 100.0, "1,000": 1000.0, "full": None}

LABELS = {
    "experiment": "Recipe",
    "dataset": "Data",
    "model": "Networks",
    "loss": "Loss",
    "activation": "Activation",
    "optim": "Optimiser",
    "norm": "Normalisation",
    "remedy": "Remedies",
    "steps": "Steps",
    "seed": "Seed",
    "replicas": "Replicas",
}
# The groups in which the second variant may differ.
VARIED = ("loss", "activation", "optim", "norm", "remedy")
NO_REMEDY = "none of them"

WORDS = {
    "covered": "G makes all of the data's modes.",
    "partial": "Modes are missing, or made too rarely.",
    "collapsed": "Mode collapse: at most half of the modes are made.",
    "unknown": "Nothing can be said from so few samples.",
}
PHASES = {
    PHASE_D_REAL: ("1 · D on real", "D sees real samples and learns to answer “real”."),
    PHASE_D_FAKE: ("2 · D on fakes", "D sees G's samples and learns to answer “fake”. G stays as it is."),
    PHASE_D_JOINT: ("1+2 · D on both", "D sees real samples and fakes in one update. G stays as it is."),
    PHASE_G: ("3 · G", "G learns to make D answer “real”. D stays as it is."),
}


def build(trainings: Trainings) -> None:
    """Builds the page."""
    head("Train")
    with ui.row().classes("w-full items-start no-wrap gap-3 max-md:flex-wrap"):
        with ui.column().classes("card gap-2 w-[300px] shrink-0 max-md:w-full"):
            form = _Form(trainings)
        with ui.column().classes("grow gap-3 min-w-0"):
            _Watch(trainings, form)


class _Form:
    """The choice of what is trained."""

    def __init__(self, trainings: Trainings):
        self.trainings = trainings
        self.offers = choices.offers()
        self.fields: dict[str, Any] = {}
        self.changes: dict[str, Any] = {}
        ui.label("What is trained").classes("font-semibold")
        for name in ("experiment", "dataset", "loss", "activation", "optim", "norm", "remedy"):
            self.fields[name] = _Select(self.offers[name], self._show_command, _default_text(self.offers[name], ""))
        self.fields["experiment"].field.on_value_change(self._show_defaults)
        with ui.row().classes("w-full no-wrap gap-2"):
            for name in choices.FIELDS:
                field = ui.number(LABELS[name], format="%d", on_change=self._show_command, min=0, precision=0)
                field.props("dense outlined stack-label").classes("grow")
                field.tooltip(choices.help_of(name))
                self.fields[name] = field
        self.more = ui.input("More settings", placeholder="optim.lr=0.01 latent_dim=2", on_change=self._show_command)
        self.more.props("dense outlined stack-label").classes("w-full")
        self.more.tooltip("Settings as on the command line of train.py")
        self.is_pair = ui.switch("Two variants side by side", on_change=self._toggle_pair)
        self.is_pair.tooltip("The second is trained at the same time, from the same seed, with the changes below.")
        with ui.column().classes("w-full gap-2").bind_visibility_from(self.is_pair, "value"):
            ui.label("Variant B is the same as A, except:").classes("small")
            for name in VARIED:
                extra = [NO_REMEDY] if name == "remedy" else []
                self.changes[name] = _Select(self.offers[name], self._show_command, "as in A", extra)
            self.more_b = ui.input("More settings of B", on_change=self._show_command)
            self.more_b.props("dense outlined stack-label").classes("w-full")
        ui.label("The same on the command line").classes("small")
        self.commands = ui.column().classes("w-full gap-1")
        self._show_defaults()
        self._show_command()

    def _show_defaults(self) -> None:
        """Writes into empty fields what counts then, which a recipe changes."""
        recipe = self.fields["experiment"].value or ""
        for name, select in self.fields.items():
            if name in choices.FIELDS:
                placeholder = "recipe's" if recipe and name != "seed" else choices.default_of(name)
                select.props(f'placeholder="{placeholder}"')
            elif name != "experiment":
                select.show_without(_default_text(self.offers[name], recipe))

    def command_lines(self) -> list[list[str]]:
        """Returns the arguments of train.py for each variant.

        Raises:
            LabError: for further settings that the page refuses.
        """
        first = choices.arguments_of(_values(self.fields), self.more.value or "")
        if not self.is_pair.value:
            return [first]
        changes = _values(self.changes)
        is_without = NO_REMEDY in (changes.get("remedy") or [])
        if is_without:
            changes["remedy"] = None
        changed = choices.arguments_of(changes, self.more_b.value or "")
        if is_without:
            changed.append("remedy=[]")
        return [first, choices.variant_of(first, changed)]

    def _toggle_pair(self) -> None:
        if self.is_pair.value and not self.trainings.is_running:
            self.trainings.prepare(2)
        self._show_command()

    def _show_command(self) -> None:
        self.commands.clear()
        with self.commands:
            try:
                lines = [choices.command_line(arguments) for arguments in self.command_lines()]
            except LabError as error:
                ui.label(str(error)).classes("problem w-full")
                return
            for line in lines:
                _command(line)


def _values(fields: dict[str, Any]) -> dict[str, Any]:
    """Returns the values of fields; numbers are whole."""
    values = {}
    for name, field in fields.items():
        value = field.value
        values[name] = int(value) if isinstance(value, float) else value
    return values


def _command(line: str) -> None:
    """Shows a command line that can be copied."""
    with ui.row().classes("w-full no-wrap items-start gap-1"):
        ui.label(line).classes("command grow")
        button = ui.button(icon="content_copy", on_click=lambda: ui.clipboard.write(line))
        button.props("flat dense size=sm").tooltip("Copy")


def _default_text(offer: Offer, recipe: str) -> str:
    """Returns what counts where nothing is chosen in a group.

    Args:
        offer: the group.
        recipe: the chosen recipe; "": none.
    """
    if recipe:
        return "as in the recipe"
    return f"{offer.default} (default)" if offer.default else "none"


class _Select:
    """The choice among the options of a group.

    Args:
        offer: the group.
        on_change: called after each choice.
        without: what nothing chosen means, in words.
        extra: further options.
    """

    def __init__(self, offer: Offer, on_change: Callable[[], None], without: str, extra: list[str] | None = None):
        self.field = ui.select(
            [*(extra or []), *offer.options],
            label=LABELS[offer.name],
            multiple=offer.several,
            value=[] if offer.several else None,
            clearable=True,
            on_change=on_change,
        )
        self.field.props("dense outlined stack-label options-dense").classes("w-full").mark(offer.name)
        self.field.tooltip(offer.help)
        self._without = without
        self.show_without(without)
        self.field.on_value_change(lambda: self.show_without(self._without))

    @property
    def value(self) -> Any:
        """The chosen option or options; None or [] for none."""
        return self.field.value

    def show_without(self, text: str) -> None:
        """Shows what counts where nothing is chosen."""
        self._without = text
        # Quasar writes this in place of the value.
        if self.field.value:
            self.field.props(remove="display-value")
        else:
            self.field.props["display-value"] = text
        self.field.update()


class _Watch:
    """Buttons, and a column for each training."""

    def __init__(self, trainings: Trainings, form: _Form):
        self.trainings = trainings
        self.form = form
        self._version: Any = None
        self._refreshes = 0
        self._shown: list[LiveTraining] | None = None
        self._columns: list[_Column] = []
        with ui.row().classes("card w-full items-center gap-2"):
            self.start = ui.button("Start", icon="play_arrow", on_click=self._start).props("no-caps color=primary")
            self.pause = ui.button("Pause", icon="pause", on_click=partial(self._order, "pause")).props("no-caps")
            self.resume = ui.button("Resume", icon="play_arrow", on_click=partial(self._order, "go")).props("no-caps")
            self.phase = ui.button("One phase", icon="skip_next", on_click=partial(self._order, "phase"))
            self.phase.props("no-caps outline").tooltip(
                "Plays the next of the three phases of a step, and says what moved"
            )
            self.reset = ui.button("Reset", icon="restart_alt", on_click=self._reset).props("no-caps outline")
            self.reset.tooltip("Ends the training; its run folder stays, with a checkpoint")
            ui.space()
            ui.label("Steps per second").classes("small")
            current = next(name for name, speed in SPEEDS.items() if speed == trainings.steps_per_second)
            speed = ui.toggle(list(SPEEDS), value=current, on_change=self._set_speed)
            speed.props("no-caps dense unelevated toggle-color=primary")
        self.row = ui.row().classes("w-full items-start gap-3 no-wrap max-lg:flex-wrap")
        self._refresh()
        ui.timer(REFRESH_SECONDS, self._refresh)

    def _start(self) -> None:
        try:
            self.trainings.start(self.form.command_lines())
        except LabError as error:
            show_problem(str(error))
        self._refresh()

    def _order(self, action: str) -> None:
        self.trainings.order(action)

    async def _reset(self) -> None:
        self.reset.props("loading")
        await asyncio.to_thread(self.trainings.reset)
        self.reset.props(remove="loading")
        self._refresh()

    def _set_speed(self, event: Any) -> None:
        self.trainings.set_speed(SPEEDS[event.value])

    def _refresh(self) -> None:
        """Shows what has come since the last time."""
        version = self.trainings.version
        self._refreshes += 1
        has_news = version != self._version
        if has_news or self._refreshes % REFRESHES_PER_CURVE == 0:
            if self._shown != self.trainings.current:
                self._rebuild()
            for column in self._columns:
                column.refresh(has_news, with_curves=self._refreshes % REFRESHES_PER_CURVE == 0)
        self._version = version
        states = {training.state for training in self.trainings.current}
        self.start.set_visibility(not states or states == {"ended"})
        self.pause.set_visibility(bool(states & {"training", "starting"}))
        self.resume.set_visibility("paused" in states and not states & {"training", "starting"})
        self.phase.set_enabled("paused" in states)
        self.reset.set_visibility(bool(states))

    def _rebuild(self) -> None:
        self._shown = list(self.trainings.current)
        self._columns = []
        self.row.clear()
        with self.row:
            if not self._shown:
                _welcome()
            for training in self._shown:
                with ui.column().classes("card gap-2 grow basis-0 min-w-0 max-lg:w-full max-lg:basis-full"):
                    self._columns.append(_Column(training, is_pair=len(self._shown) > 1))


def _welcome() -> None:
    """Says what the page is for, before the first training."""
    with ui.column().classes("card w-full gap-1"):
        ui.label("Watch a generator G learn to fool a discriminator D").classes("text-lg font-semibold")
        ui.label(
            "Choose the data on the left (ring is quickest to watch) and press Start. Pause, and play single phases of "
            "a step to see what each of them moves. Then look for mode collapse: G makes only some of the modes. "
            "Choose a remedy, or two variants side by side, and try again."
        )
        ui.label(
            "What is trained here is an ordinary run folder below outputs/: resume, evaluate and explore it."
        ).classes("small")


class _Column:
    """What is shown of one training."""

    def __init__(self, training: LiveTraining, is_pair: bool):
        self.training = training
        self._opened: Opened | None = None
        self._phases: tuple[PhaseReport, ...] = ()
        name = f"Variant {training.name}: " if is_pair else ""
        ui.label(name + (" ".join(training.arguments) or "the defaults of train.py")).classes("font-semibold text-sm")
        self.state = ui.label().classes("small")
        self.bar = ui.linear_progress(value=0, show_value=False, size="6px").props("rounded instant-feedback")
        self.problem = ui.label().classes("problem w-full")
        self.problem.set_visibility(False)
        self.phases = ui.column().classes("w-full gap-1")
        with ui.row().classes("w-full items-start gap-3" + ("" if is_pair else " no-wrap max-md:flex-wrap")):
            with ui.column().classes("gap-1 w-full" + ("" if is_pair else " max-w-[420px]")):
                self.picture = ui.html(sanitize=False).classes("w-full")
                self.caption = ui.label().classes("small")
            with ui.column().classes("grow gap-1 min-w-0 w-full"):
                with ui.row().classes("items-center gap-2"):
                    self.word = ui.label().classes("word")
                    self.count = ui.label().classes("text-sm font-semibold")
                self.meaning = ui.label().classes("text-sm whitespace-pre-line")
                self.charts = ui.column().classes("w-full gap-1")
        with ui.expansion("What train.py says").classes("w-full text-sm").props("dense"):
            self.said = ui.label().classes("said")

    def refresh(self, has_news: bool, with_curves: bool) -> None:
        """Shows the newest reports."""
        training = self.training
        if training.opened is not None and self._opened is None:
            self._opened = training.opened
            self._build_charts(training.opened)
        if has_news:
            self._show_state()
            if training.glance is not None and training.opened is not None:
                self._show_glance(training.opened, training.glance)
            self._show_phases()
        if with_curves and self._opened is not None:
            self._show_curves()

    def _build_charts(self, opened: Opened) -> None:
        ideals = []
        if opened.ideal_d is not None:
            ideals.append((f"ideal D {opened.ideal_d:.2f}", opened.ideal_d))
        if opened.ideal_g is not None and opened.ideal_g != opened.ideal_d:
            ideals.append((f"ideal G {opened.ideal_g:.2f}", opened.ideal_g))
        if len(ideals) == 1 and opened.ideal_g is not None:
            ideals = [(f"ideal {opened.ideal_d:.2f}", ideals[0][1])]
        answer = [] if opened.ideal_answer is None else [(f"ideal {opened.ideal_answer:g}", opened.ideal_answer)]
        height = "h-[130px] w-full"
        with self.charts:
            ui.label("Losses").classes("small")
            names = ["D on real", "D on fakes", "G"]
            colours = [drawing.D_REAL_COLOUR, drawing.D_FAKE_COLOUR, drawing.G_COLOUR]
            self.losses = ui.echart(drawing.curve_options(names, colours, ideals)).classes(height)
            unit = "probability of “real”" if opened.is_probability else "score"
            ui.label(f"D's mean answer ({unit})").classes("small")
            self.answers = ui.echart(drawing.curve_options(names[:2], colours[:2], answer)).classes(height)
            self.modes = None
            if opened.modes:
                ui.label("Modes made").classes("small")
                all_modes = [(f"all {opened.modes:,}", float(opened.modes))]
                self.modes = ui.echart(drawing.curve_options(["modes"], ["#7c3aed"], all_modes, bottom=0))
                self.modes.classes("h-[100px] w-full")
                self.modes.options["yAxis"] |= {"max": opened.modes, "interval": opened.modes / 2}
                self.modes.options["grid"]["top"] = 10
                self.modes.options["legend"] = {"show": False}

    def _show_state(self) -> None:
        training = self.training
        step = training.glance.step if training.glance else 0
        steps = training.opened.steps if training.opened else 0
        texts = {
            "starting": "Starting …",
            "training": f"Training: step {step:,} of {steps:,}",
            "paused": f"Paused at step {step:,} of {steps:,}",
            "ended": f"Ended at step {step:,} of {steps:,}" if steps else "It did not start",
        }
        text = texts[training.state]
        glance = training.glance
        if glance and glance.seconds > 1 and training.state == "training":
            text += f" · {glance.step / glance.seconds:,.0f} steps/s"
        if training.opened:
            text += f" · {training.opened.folder}"
        self.state.set_text(text)
        self.bar.set_value(step / steps if steps else 0)
        self.problem.set_text(training.problem)
        self.problem.set_visibility(bool(training.problem))
        self.said.set_text("\n".join(line.text.strip("\n") for line in training.lines) or "nothing yet")

    def _show_glance(self, opened: Opened, glance: Glance) -> None:
        if isinstance(glance.fake, bytes):
            self.picture.set_content(drawing.image(glance.fake, 420))
            self.caption.set_text("G's samples, from the same latent vectors each time")
        elif opened.kind == "points" and isinstance(opened.real, np.ndarray):
            svg = drawing.plane(opened.window, opened.real, glance.fake, glance.surface, glance.arrows)
            self.picture.set_content(svg)
            self.caption.set_text(_caption(opened, glance))
        else:
            self.picture.set_content(drawing.heat_map(glance.fake))
            self.caption.set_text("G's samples, a row each: white is 0, dark blue is 1")
        self.word.set_text(glance.collapse)
        self.word.classes(replace=f"word word-{glance.collapse}")
        if glance.modes_made is not None:
            self.count.set_text(f"{glance.modes_made:,} of {opened.modes:,} modes made")
        ended = self.training.ended
        sentence = ended.verdict.get("sentence") if ended else None
        if ended and isinstance(sentence, str):
            word = str(ended.verdict.get("collapse"))
            self.word.set_text(word)
            self.word.classes(replace=f"word word-{word if word in WORDS else 'unknown'}")
            more = [f"within modes: {ended.verdict.get('within_modes')}", f"likeness: {ended.verdict.get('likeness')}"]
            self.count.set_text(" · ".join(["The verdict at the end", *more]))
            self.meaning.set_text(sentence)
        else:
            self.meaning.set_text(WORDS.get(glance.collapse, ""))

    def _show_curves(self) -> None:
        curves = self.training.curves
        for chart, columns in (
            (self.losses, ("loss/d_real", "loss/d_fake", "loss/g")),
            (self.answers, ("score/real", "score/fake")),
        ):
            for number, column in enumerate(columns):
                points = [[point.step, _rounded(point.row.get(column))] for point in curves]
                chart.options["series"][number]["data"] = points
            chart.update()
        if self.modes is not None:
            self.modes.options["series"][0]["data"] = [list(point) for point in self.training.modes]
            self.modes.update()

    def _show_phases(self) -> None:
        reports = tuple(self.training.phases)
        if reports == self._phases:
            return
        self._phases = reports
        self.phases.clear()
        with self.phases:
            _phase_cards(reports)


def _caption(opened: Opened, glance: Glance) -> str:
    """Returns what the picture of the plane shows."""
    text = "Blue dots: real. Orange dots: made by G."
    if glance.surface:
        text += " Background: D's answer, blue = real, orange = fake."
    if glance.arrows is not None and len(glance.arrows):
        text += " Arrows: where D pulls G's samples."
    lost = drawing.outside(opened.window, np.asarray(glance.fake))
    if lost:
        text += f" {lost} of {len(glance.fake)} samples lie outside."
    return text


def _phase_cards(reports: tuple[PhaseReport, ...]) -> None:
    """Shows the newest report of each phase of a step, and which came last."""
    last = reports[-1]
    names = [PHASE_D_JOINT, PHASE_G]
    if any(report.name in (PHASE_D_REAL, PHASE_D_FAKE) for report in reports):
        names = [PHASE_D_REAL, PHASE_D_FAKE, PHASE_G]
    ui.label(f"One phase at a time: step {last.step:,}").classes("text-sm font-semibold")
    with ui.row().classes("w-full gap-2"):
        for name in names:
            title, meaning = PHASES[name]
            newest = next((report for report in reversed(reports) if report.name == name), None)
            with ui.column().classes(f"phase gap-0 {'phase-now' if newest is last else ''}"):
                ui.label(title).classes("text-sm font-semibold")
                ui.label(meaning).classes("small")
                if newest is None or newest.step != last.step:
                    ui.label("not yet in this step").classes("small italic")
                    continue
                ui.label(f"moved: D by {newest.moved_d:.4f}, G by {newest.moved_g:.4f}").classes("text-sm")
                ui.label(f"D on real: {newest.real_before:.4f} → {newest.real_after:.4f}").classes("text-sm")
                ui.label(f"D on fakes: {newest.fake_before:.4f} → {newest.fake_after:.4f}").classes("text-sm")
    ui.label(
        "“Moved” is the length of the change of all weights together (Euclidean norm). "
        "Single phases are played by autograd, which equals the compiled step up to rounding."
    ).classes("small")


def _rounded(value: float | None) -> float | None:
    """Returns a number with as many digits as a curve shows; None for none."""
    if value is None or not np.isfinite(value):
        return None
    return float(f"{value:.5g}")
