"""Prompts out of radiology reports: the positive findings that can be drawn, in the report's own words."""

from worker.report_language.errors import LanguageError, NotAReportError, ReportError, ReportTooLargeError
from worker.report_language.extract import DEFAULT_LIMIT, LeftOut, Prompt, ReportPrompts, prompts_from_text
from worker.report_language.language.lexicon import Lexicon, bundled_lexicon, load_lexicon
from worker.report_language.language.rules import Reason, Rules, bundled_rules, load_rules

__all__ = [
    "DEFAULT_LIMIT",
    "LanguageError",
    "LeftOut",
    "Lexicon",
    "NotAReportError",
    "Prompt",
    "Reason",
    "ReportError",
    "ReportPrompts",
    "ReportTooLargeError",
    "Rules",
    "bundled_lexicon",
    "bundled_rules",
    "load_lexicon",
    "load_rules",
    "prompts_from_text",
]
