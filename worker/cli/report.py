"""`report prompts`: prints which findings of a radiology report become prompts, and which do not with the reason.

The text of the report is printed, since the person who runs the command has the file; it is never logged.
"""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from worker.cli.printing import Json, print_json
from worker.settings import load

app = typer.Typer(help="Reads prompts from radiology reports.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Keeps `prompts` a command of a group: typer would make a lone command the group itself."""


@app.command()
def prompts(
    files: Annotated[list[Path], typer.Argument(help="Reports: text, DICOM SR, HL7 v2 ORU, FHIR and others.")],
    language: Annotated[
        str | None, typer.Option("--language", help="Language of the reports; default VOXTELL_REPORT_LANGUAGE.")
    ] = None,
    uncertain: Annotated[
        bool, typer.Option("--uncertain", help="Include findings that the report calls possible.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Prints the prompts that a report gives, each with its sentence, and what was left out with the reason."""
    from worker.report_language import load_language, prompts_from_text
    from worker.report_language.formats.read import read_report
    from worker.reports.reported import codec_for, drawable

    if folders := [str(file) for file in files if file.is_dir()]:
        raise typer.BadParameter(f"{', '.join(folders)} is a folder; name the files of reports.")
    settings = load()
    words = load_language(language or settings.report_language, settings.report_language_folder)
    codec = codec_for(settings)
    answers: list[dict[str, Any]] = []
    for file in files:
        found = drawable(prompts_from_text(read_report(file, codec=codec), language=words, include_uncertain=uncertain))
        answers.append({"file": str(file)} | asdict(found))
    if as_json:
        print_json(answers)
        return
    for answer in answers:
        typer.echo(answer["file"])
        for prompt in answer["prompts"]:
            typer.echo(f"  + {prompt['prompt']}\n      {prompt['sentence']}")
        for left in answer["left_out"]:
            typer.echo(f"  - {left['text']} ({left['reason']})\n      {left['sentence']}")
