"""What the text of a report asks for: its prompts with their sentences, and what is left out. Nothing is kept here."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from dicom_node.regions import LABEL_LENGTH, shortened
from voxtell.prompt_checks import problem_of
from worker.job_spec import Prompt
from worker.protocols.protocol import FromReport
from worker.report_language import ExtractedPrompt, LeftOut, ReportLanguage, load_language, prompts_from_text
from worker.report_language.extract import ReportPrompts
from worker.settings import Settings


@dataclass(frozen=True)
class Reported:
    """What the reports of a study ask for."""

    prompts: tuple[Prompt, ...] = ()
    left_out: tuple[LeftOut, ...] = ()
    found: bool = False  # a report is there, whether it gives prompts or not
    waiting_until: float | None = None  # seconds since 1970-01-01 UTC; None: nothing to wait for
    line: str = ""  # for people and the ledger; holds no word of the report


def language_of(settings: Settings) -> ReportLanguage:
    """Loads the language of the node's reports.

    Raises:
        LanguageError: when the node has no such language, or its files are not valid.
    """
    return load_language(settings.report_language, settings.report_language_folder)


def codec_for(settings: Settings) -> str:
    """Returns Python's name of the character set of reports in DICOM that declare none; "" where the site has none."""
    if not settings.character_set:
        return ""
    from dicom_node.images.character_sets import codec_of  # brings pydicom, which most processes need not load

    return codec_of(settings.character_set)


def reported_by(text: str, options: FromReport, language: ReportLanguage) -> Reported:
    """Reads what the text of a report asks for.

    "8 mm nodule in the left lung. No effusion." gives the prompt "nodule in the left lung" and the line "1 prompt from
    the report; left out: 1 negated".
    """
    result = drawable(
        prompts_from_text(text, language=language, limit=options.limit, include_uncertain=options.uncertain)
    )
    prompts = tuple(map(_prompt, result.prompts))
    return Reported(prompts, result.left_out, found=True, line=_line(len(prompts), result.left_out))


def drawable(found: ReportPrompts) -> ReportPrompts:
    """Leaves out the prompts that say more than what is to be drawn ("nodule in the contralateral lung").

    The reason is the kind of wording: relative, exception, denial, margin, planning or combination.
    """
    problems = [(one, problem_of(one.prompt)) for one in found.prompts]
    refused = (LeftOut(one.prompt, one.sentence, problem.kind) for one, problem in problems if problem is not None)
    return ReportPrompts(tuple(one for one, problem in problems if problem is None), (*found.left_out, *refused))


def _prompt(phrase: ExtractedPrompt) -> Prompt:
    """Makes a prompt of a phrase of the report.

    A phrase that is too long for a label (VR LO) gets a name that begins with the side, so that no cut removes the
    side. The sentence is put on one line: it is part of the job's identity, and copies of a report differ in their line
    breaks.
    """
    words = (phrase.side, phrase.finding, phrase.site)
    name = (
        shortened(" ".join(word for word in words if word), LABEL_LENGTH) if len(phrase.prompt) > LABEL_LENGTH else None
    )
    return Prompt(text=phrase.prompt, name=name, sentence=" ".join(phrase.sentence.split()))


def current(texts: Sequence[str], addenda: tuple[str, ...]) -> Sequence[str]:
    """Returns the newest whole report and the addenda after it: ["A", "Addendum: x", "B"] becomes ["B"]."""
    whole = [i for i, text in enumerate(texts) if not text.lstrip(" \n*-=").casefold().startswith(addenda)]
    return texts[whole[-1] :] if whole else texts


def _line(prompts: int, left_out: Sequence[LeftOut]) -> str:
    """Writes one line on a report without its words: "1 prompt from the report; left out: 1 negated"."""
    reasons = ", ".join(f"{count} {reason}" for reason, count in Counter(one.reason for one in left_out).items())
    named = f"{prompts} prompt{'' if prompts == 1 else 's'} from the report"
    return f"{named}; left out: {reasons}" if reasons else named
