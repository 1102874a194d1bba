"""From report text to prompts: the whole way on one screen. Pure functions, safe in any thread.

    text -> tokens -> sentences in their section -> findings with their place -> context -> prompts, and the rest

A finding becomes a prompt when it is present (not negated, historical, ...), can be drawn, is not the repetition of an
earlier one, and the limit is not reached. Everything else is left out with its reason.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from worker.report_language.findings.context import is_denied, reason_for, trigger_scopes
from worker.report_language.findings.lists import as_item
from worker.report_language.findings.mentions import mentions
from worker.report_language.findings.places import DESCRIPTION, Mention
from worker.report_language.findings.prompt_text import PromptWriter
from worker.report_language.findings.separate_places import add_separate_places
from worker.report_language.findings.titles import titled_organ
from worker.report_language.language.chunks import Chunk, chunk
from worker.report_language.language.data_files import ReportLanguage, load_language
from worker.report_language.language.lexicon import Lexicon, WordKind
from worker.report_language.language.rules import REPORT, Reason, Rules
from worker.report_language.language.sentences import Sentence, sentences
from worker.report_language.language.tokens import Token, visible

# A report of more distinct findings than this is rare, and each prompt costs the network a pass of its decoder.
DEFAULT_LIMIT = 32

_LONGEST_HEADING = 8  # chunks before a colon


@dataclass(frozen=True, slots=True)
class ExtractedPrompt:
    """A finding to segment: the phrase for the network and where in the report it comes from."""

    prompt: str
    sentence: str  # verbatim, control characters as blanks
    finding: str  # concept of the lexicon: "nodule"
    site: str  # in the report's words: "right upper lobe"; empty when the report names none
    side: str  # left, right, bilateral or empty
    status: str  # present or uncertain
    span: tuple[int, int]  # of the sentence: characters of the text from, to (exclusive)


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A finding that the report names and that gives no prompt."""

    text: str
    sentence: str
    reason: str


@dataclass(frozen=True, slots=True)
class ReportPrompts:
    """What a report gives, in the order of the text."""

    prompts: tuple[ExtractedPrompt, ...]
    left_out: tuple[LeftOut, ...]

    def to_json(self) -> dict[str, Any]:
        """Returns the same as JSON values: `{"prompts": [...], "left_out": [...]}`."""
        return {"prompts": [asdict(one) for one in self.prompts], "left_out": [asdict(one) for one in self.left_out]}


@dataclass(frozen=True, slots=True)
class _Found:
    """A finding of the report before the choice; `reason` is why it gives no prompt, as far as its sentence tells."""

    prompt: ExtractedPrompt
    reason: Reason | None
    key: frozenset[str] = frozenset()  # concepts of site and side, for the comparison with other mentions
    looks: frozenset[str] = frozenset()  # "solid", "calcified"
    known: bool = False  # "the nodule"
    other: bool = False  # "another nodule"


def prompts_from_text(
    text: str,
    *,
    language: ReportLanguage | None = None,
    limit: int = DEFAULT_LIMIT,
    include_uncertain: bool = False,
) -> ReportPrompts:
    """Reads the positive findings of a report that can be drawn, as phrases in its own words, and what is left out.

    "FINDINGS: 8 mm solid nodule in the right upper lobe. No pleural effusion." gives the prompt "solid nodule in the
    right upper lobe" (side "right", site "right upper lobe", finding "nodule") and leaves out "pleural effusion" as
    negated. The work is linear in the length of the text.

    Args:
        language: words and rules of the report's language; None: English.
        limit: the largest number of prompts.
        include_uncertain: whether "possible" findings give prompts, too.

    Raises:
        ReportTooLargeError: when the text has more than MAX_CHARACTERS.
    """
    language = language or load_language()
    chosen: list[_Found] = []
    left_out: list[LeftOut] = []
    for found in _findings(visible(text), language.lexicon, language.rules):
        reason = found.reason
        if reason is Reason.UNCERTAIN and include_uncertain:
            reason = None
        if reason is None and any(_repeats(found, earlier) for earlier in chosen):
            reason = Reason.REPEATED
        if reason is None and len(chosen) == limit:
            reason = Reason.OVER_LIMIT
        if reason is None:
            chosen.append(found)
        else:
            left_out.append(LeftOut(found.prompt.prompt, found.prompt.sentence, reason.value))
    return ReportPrompts(tuple(found.prompt for found in chosen), tuple(left_out))


def _repeats(found: _Found, earlier: _Found) -> bool:
    """Whether a finding repeats an earlier one of the same concept.

    "8 mm nodule in the right upper lobe. The nodule is solid." names one nodule, and "IMPRESSION: Right upper lobe
    nodule." repeats it. A finding with a more precise place or other looks, or "another nodule", is no repetition.
    """
    if found.prompt.finding != earlier.prompt.finding:
        return False
    if found.prompt.prompt == earlier.prompt.prompt:
        return True
    told_again = bool(found.key) or found.known or found.looks <= earlier.looks
    elsewhere = found.prompt.span != earlier.prompt.span
    return elsewhere and not found.other and told_again and found.key <= earlier.key


def _findings(text: str, lexicon: Lexicon, rules: Rules) -> Iterator[_Found]:
    """Yields every finding that the report names, in the order of the text."""
    tokens = lexicon.tokens(text)
    foreign = _foreign_lines(text, tokens, rules)
    for sentence in sentences(text, tokens, lexicon, rules):
        start, end = sentence.span
        unread = any(start < line_end and line_start < end for line_start, line_end in foreign)
        for found in _of_sentence(text, as_item(sentence, lexicon), lexicon, rules):
            yield replace(found, reason=Reason.OTHER_LANGUAGE) if unread else found


def _foreign_lines(text: str, tokens: Sequence[Token], rules: Rules) -> list[tuple[int, int]]:
    """Returns the lines, characters from and to, that hold a phrase of another language.

    Findings have the same names in many languages ("Tumor", "Pneumothorax"), but the rules read neither a side nor a
    denial there. Whole lines, since a dot of an abbreviation ("re. Niere") looks like the end of a sentence.
    """
    lines: list[tuple[int, int]] = []
    for at, token in enumerate(tokens):
        if (not lines or token.start >= lines[-1][1]) and rules.foreign.longest(tokens, at):
            end = text.find("\n", token.start)
            lines.append((text.rfind("\n", 0, token.start) + 1, len(text) if end < 0 else end))
    return lines


def _of_sentence(text: str, sentence: Sentence, lexicon: Lexicon, rules: Rules) -> Iterator[_Found]:
    """Yields the findings of one sentence; "The spleen is normal." gives the spleen, with the reason `normal`."""
    chunks = chunk(sentence.tokens, lexicon)
    titled = titled_organ(chunk(sentence.title, lexicon), lexicon) is not None
    found = mentions(chunks, lexicon, titled=titled)
    add_separate_places(chunks, found, lexicon)
    heads = [(chunks[one.head].start, chunks[one.head].end) for one in found if chunks[one.head].drawable]
    scopes = trigger_scopes(sentence.tokens, rules, heads)
    writer = PromptWriter(text, sentence, chunks, lexicon)
    if not found and sentence.section == REPORT and any(scope.reason is Reason.NORMAL for scope in scopes):
        yield from _normal(writer)
    for mention in found:
        if _is_heading(mention, found, chunks):
            continue
        head = chunks[mention.head]
        if sentence.section == REPORT:
            phrase = (chunks[mention.start].start, chunks[mention.end - 1].end)
            reason = reason_for((head.start, head.end), phrase, scopes)
            told_of = chunks[mention.apart[0]].start if head.kind is WordKind.STATE and mention.apart else -1
            reason = reason or (Reason.NEGATED if is_denied(told_of, heads, scopes) else None)
        else:
            reason = Reason(sentence.section)
        if not head.drawable and reason in (None, Reason.UNCERTAIN):
            reason = Reason.NO_VOLUME
        written = writer.of(mention)
        status = "uncertain" if reason is Reason.UNCERTAIN else "present"
        prompt = ExtractedPrompt(
            written.prompt, writer.sentence, head.concept, written.site, written.side, status, writer.span
        )
        yield _Found(prompt, reason, written.key, *_told(chunks, mention, lexicon))


def _told(chunks: Sequence[Chunk], mention: Mention, lexicon: Lexicon) -> tuple[frozenset[str], bool, bool]:
    """Returns the looks of a finding ("solid"), whether it is named as known ("the nodule"), whether as another one."""
    before = chunks[max(mention.start - 1, 0) : mention.head]
    looks = frozenset(piece.concept for piece in before if piece.kind in DESCRIPTION)
    concepts = {piece.concept for piece in before}
    return looks, not lexicon.definite.isdisjoint(concepts), not lexicon.others.isdisjoint(concepts)


def _normal(writer: PromptWriter) -> Iterator[_Found]:
    """Yields the site that a sentence calls normal, to be listed among what is left out."""
    site = writer.first_site()
    if site:
        prompt = ExtractedPrompt(site, writer.sentence, "", site, "", "present", writer.span)
        yield _Found(prompt, Reason.NORMAL)


def _is_heading(mention: Mention, found: Sequence[Mention], chunks: Sequence[Chunk]) -> bool:
    """Whether the finding only heads others and is none itself.

    In "Masses or nodules: 5 mm nodule in the left lung" only the second nodule counts.
    """
    colon = next((i for i in range(min(_LONGEST_HEADING, len(chunks))) if chunks[i].concept == ":"), 0)
    if mention.head > colon or not colon or any(start > colon for start, _ in mention.kept):
        return False
    if any(start > colon for start, _ in mention.place) or (mention.apart and mention.apart[0] > colon):
        return False  # the item of a list
    after = {chunks[other.head].concept for other in found if other.head > colon}
    bare = mention.kept == [(mention.head, mention.head + 1)]
    repeated = any(chunks[other.head].concept in after for other in found if other.head < colon)
    return colon + 1 == len(chunks) or repeated or bool(after and bare)
