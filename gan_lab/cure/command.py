"""scripts/cure.py: examination, race, proof and prescription, one after the other."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gan_lab.comparison.run_page import statement_and_numbers
from gan_lab.core import interrupts
from gan_lab.core.io import relative_path
from gan_lab.core.terminal import say
from gan_lab.cure.examination import Examination, examine
from gan_lab.cure.patient import Patient, open_patient, patient_of
from gan_lab.cure.plan import MAX_PROOF_SHARE, describe_seconds
from gan_lab.cure.request import Request
from gan_lab.cure.state import State, claimed, damaged, read_state
from gan_lab.cure.trainings import Trainings
from gan_lab.cure.treatment import Treatment, path_from


def cure(request: Request) -> str:
    """Cures a training, or says that nothing is wrong with it; goes on where the same command was stopped.

    Returns:
        The answer, for a terminal.

    Raises:
        LabError: for a run without a verdict, a budget that is too short, another process at work, a full disk,
            a folder that holds anything else.
        SystemExit: if the patient's training is refused, which has said why.
    """
    patient = None
    if request.run is not None:
        patient = open_patient(request.run, request.patient_overrides)
        examination = examine(patient.record)
        if examination.is_healthy:
            # Nothing is written.
            return _healthy(examination)
    with claimed(request.folder):
        state = read_state(request.folder, request.arguments, request.seconds)
        if "answer" not in state.content:
            interrupts.at_end(_say_how_to_go_on)
            _cure(request, patient, state)
        try:
            return describe(state.content, request.folder)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise damaged(request.folder) from error


def _cure(request: Request, patient: Patient | None, state: State) -> None:
    """Examines and treats; what is found goes into the state.

    Args:
        request: what the user asks for.
        patient: None if it is yet to be trained.
        state: of the cure.
    """
    trainings = Trainings(request.folder, request.common_arguments)
    if patient is None:
        run = trainings.patient(request.patient_overrides, MAX_PROOF_SHARE * request.seconds)
        patient = patient_of(run, request.patient_overrides)
    examination = examine(patient.record)
    about = {
        "folder": path_from(request.folder, patient.record.run.folder),
        "overrides": patient.overrides,
        "steps": patient.steps,
        "dataset": str(patient.record.summary.get("dataset") or ""),
        "sentence": examination.verdict,
    }
    state.keep(patient=about, examination=examination.as_json())
    if examination.is_healthy:
        state.keep(answer=_healthy(examination))
        return
    say("\n".join(["What is wrong:", *(f"  {symptom.sentence}" for symptom in examination.symptoms)]))
    Treatment(request, patient, examination.failures, trainings, state).run()


def _say_how_to_go_on() -> None:
    say("The same command goes on from here.", stderr=True)


def _healthy(examination: Examination) -> str:
    statement, numbers = statement_and_numbers(examination.verdict)
    answer = f"Nothing is wrong: {statement}"
    if examination.copies:
        answer = f"It does not collapse, and nothing else is looked for here: {statement}"
    return f"{answer}\n{numbers}".rstrip()


def describe(content: Mapping[str, Any], folder: Path) -> str:
    """Returns the answer, the prescription and where the page is.

    Args:
        content: of cure.json.
        folder: of the cure.
    """
    lines = [str(content["answer"])]
    proof = content.get("proof")
    if proof:
        lines += [f"  without: {proof['verdicts']['patient']}", f"  with:    {proof['verdicts']['winner']}"]
    prescription = content.get("prescription")
    if prescription:
        experiment = relative_path(folder / prescription["experiment"])
        lines += ["Prescription:", f"  {prescription['command']}", f"  as an experiment: {experiment}"]
    lines.append(f"Page: {relative_path(folder / 'cure.html')} ({describe_seconds(content['spent_seconds'])})")
    return "\n".join(lines)
