"""Prompts out of radiology reports: the positive findings that can be drawn, in the report's own words.

    extract     text -> prompts, and what is left out with the reason
    findings/   the findings of a sentence: their words, place and context
    language/   the words and rules of a language, read from two data files
    formats/    plain text, DICOM SR, HL7 v2 ORU, FHIR -> text and links to the study
    evaluation/ scores on labelled reports

Text in, prompts out: the package imports nothing else of `worker` (a contract of .importlinter).

    >>> prompts_from_text("8 mm solid nodule in the right upper lobe. No pleural effusion.").prompts[0].prompt
    'solid nodule in the right upper lobe'
"""

from worker.report_language.errors import LanguageError, NotAReportError, ReportError, ReportTooLargeError
from worker.report_language.extract import ExtractedPrompt, LeftOut, prompts_from_text
from worker.report_language.language.data_files import ReportLanguage, load_language

__all__ = [
    "ExtractedPrompt",
    "LanguageError",
    "LeftOut",
    "NotAReportError",
    "ReportError",
    "ReportLanguage",
    "ReportTooLargeError",
    "load_language",
    "prompts_from_text",
]
