"""Sentences of a report: where they end, which section they stand in, and the title before them.

Radiology text has bullets, lists without full stops, lines broken inside a sentence, and titles in front of sentences
("Lungs: No nodules."). A sentence ends at a full stop, at a quotation mark, before a bullet, before a title, at a blank
line, and at a line break when the next line starts a new item.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from worker.report_language.language.lexicon import Lexicon, WordKind
from worker.report_language.language.rules import REPORT, Reason, Rules
from worker.report_language.language.tokens import Token

_BULLETS = frozenset("•*-–—·▪●○◦>‣")
_FULL_STOPS = frozenset(".!")
_ENDS = _FULL_STOPS | frozenset('"“”')
_OF_PLACE = frozenset(
    {WordKind.SIDE, WordKind.POSITION, WordKind.SITE, WordKind.SITE_ADJECTIVE, WordKind.JOIN, WordKind.PREPOSITION}
)
_DESCRIBES = frozenset({WordKind.MODIFIER, WordKind.STATE, WordKind.QUANTITY, WordKind.CHANGE, WordKind.SIZE})
_DASHES = frozenset("-–—")
_QUESTION = "?"  # ends a sentence and stays in it: it makes the finding before it uncertain
_NARROWEST = 40  # characters: nobody breaks lines at less
_LONGEST_TITLE = 8  # words before a colon
# Text without full stops is cut here, which keeps the work per sentence bounded; real sentences stay under 100 tokens.
_LONGEST_SENTENCE = 300


@dataclass(frozen=True, slots=True)
class Sentence:
    """Tokens of one sentence without its title; `section` is `report` or the reason why it gives no prompts."""

    tokens: Sequence[Token]
    title: Sequence[Token]
    section: str
    span: tuple[int, int]  # characters of the text from, to (exclusive), with the full stop
    heading: "Sentence | None" = None  # the line above that ends with a colon and heads a list: "Nodules:"


@dataclass(frozen=True, slots=True)
class _Layout:
    """The line breaks of a text, by token: two end a paragraph; after a full line the sentence may go on."""

    text: str
    tokens: Sequence[Token]
    width: int  # of the longest line: a line is full when the next word would not have fitted

    def breaks_before(self, i: int) -> int:
        """Counts the line breaks between token i - 1 and token i."""
        return self.text.count("\n", self.tokens[i - 1].end, self.tokens[i].start) if i else 1

    def word(self, i: int) -> str:
        """Returns token i as the report wrote it."""
        return self.text[self.tokens[i].start : self.tokens[i].end]

    def line_is_full(self, i: int) -> bool:
        """Whether token i, the first of its line, would not have fitted on the line before."""
        end = self.tokens[i - 1].end if i else 0
        line = end - (self.text.rfind("\n", max(0, end - self.width - 1), end) + 1)
        return line + 1 + len(self.word(i)) > self.width


def sentences(text: str, tokens: Sequence[Token], lexicon: Lexicon, rules: Rules) -> Iterator[Sentence]:
    """Cuts a report into sentences, in order; `tokens` are those of the whole text.

    "HISTORY: Cough.", and on the next line "FINDINGS: Lungs: No nodule.", has two: "Cough" in the section `historical`,
    which gives no prompts, and "No nodule" in the section `report`.
    """
    longest = max(len(line) for line in text.split("\n"))
    layout = _Layout(text, tokens, max(longest, _NARROWEST))
    section, title, has_content = REPORT, (0, 0), False
    pieces = [
        (*piece, _section(tokens[piece[0] : piece[2]], lexicon, rules)) for piece in _pieces(layout, lexicon, rules)
    ]
    opens = [start for start, _, _, kind in pieces if kind == REPORT and not rules.conclusions.longest(tokens, start)]
    concludes = not opens and any(kind == REPORT for *_, kind in pieces)
    titled = bool(opens)
    heading: Sentence | None = None
    bulleted = inline = of_item = False
    for start, end, colon, kind in pieces:
        breaks = layout.breaks_before(start)
        if _opens_item(layout, start):
            if of_item:
                title = (0, 0)
            of_item = bool(colon)
        elif breaks:
            of_item = False
        if breaks > 1 or kind or (breaks and bulleted):
            heading = None
        bulleted = not breaks
        if breaks > 1 or (breaks and not layout.line_is_full(start)):
            title = (0, 0)
        # Without a title that opens the findings, a history or technique ends with its first sentence.
        own_line = breaks and (concludes or section in rules.one_line)
        if has_content and (breaks > 1 or own_line or not (titled or concludes)):
            section = REPORT
        if inline and not colon and _leaves(tokens[start:end], tokens[title[0] : title[1]], lexicon):
            title = (0, 0)
        if colon:
            inline = not breaks and _follows_sentence(tokens, start)
            site = _has_site(tokens[start:colon], lexicon)
            has_content = False
            section = kind or (REPORT if site else section)
            title = (0, 0) if kind else (start, colon)
        first = max(start, colon)
        if first < end:
            has_content = True
            last = end if end < len(tokens) and tokens[end].norm in _FULL_STOPS else end - 1
            span = (tokens[first].start, tokens[last].end)
            sentence = Sentence(tokens[first:end], tokens[title[0] : title[1]], section, span, heading)
            if tokens[end - 1].norm == ":":
                heading, bulleted = sentence, False
            yield sentence


def _pieces(layout: _Layout, lexicon: Lexicon, rules: Rules) -> Iterator[tuple[int, int, int]]:
    """Yields (start, end, position after the title or 0) of each sentence, as positions in the tokens.

    Bullets and end marks are left out. "Lungs: No nodule." gives (0, 4, 2): the title is "Lungs:".
    """
    tokens = layout.tokens
    start = 0
    while start < len(tokens):
        if _is_bullet(layout, start):
            start += 1
            continue
        colon = _title_end(layout, start, lexicon, rules)
        if 0 < colon < len(tokens):  # "Finding: FINDINGS: ..." of a structured report
            colon = _known_title_end(layout, colon, rules) or colon
        end = max(colon, start)
        while end < len(tokens) and not (end > start and end > colon and _starts_sentence(layout, end, rules)):
            end += 1
            if _ends_sentence(layout, end - 1, rules) or end - start == _LONGEST_SENTENCE:
                break
        content = end - 1 if end > start and tokens[end - 1].norm in _ENDS else end
        if content > start:
            yield start, content, colon
        start = max(end, start + 1)


def _is_bullet(layout: _Layout, i: int) -> bool:
    """Whether token i is a bullet or a list number ("2." or "2)") at the start of a sentence, or its dot."""
    norm = layout.tokens[i].norm
    if norm in _BULLETS or norm in _ENDS or norm == ")":
        return True
    after = layout.tokens[i + 1].norm if i + 1 < len(layout.tokens) else ""
    return norm.isdigit() and len(norm) < 3 and after in (".", ")")


def _ends_sentence(layout: _Layout, i: int, rules: Rules) -> bool:
    """Whether token i is the last of its sentence."""
    tokens, norm = layout.tokens, layout.tokens[i].norm
    if norm == _QUESTION:
        return i + 1 < len(tokens) and layout.word(i + 1)[0].isupper()
    if norm not in _ENDS:
        return False
    if norm != "." or i + 1 == len(tokens):
        return True
    spaced = tokens[i + 1].start > tokens[i].end
    before = layout.word(i - 1) if i else ""
    initial = (
        len(before) == 1
        and before.isalpha()
        and not layout.text[max(tokens[i - 1].start - 1, 0) : tokens[i - 1].start].isdigit()
    )  # not "4X"
    if before.casefold() in rules.abbreviations or initial:
        return layout.breaks_before(i + 1) > 1
    return spaced or (layout.word(i + 1)[0].isupper() and not before.isupper())


def _starts_sentence(layout: _Layout, i: int, rules: Rules) -> bool:
    """Whether a new sentence starts at token i although no full stop ended the one before.

    It does at a known title, a bullet, a blank line, and a line break before a capital letter or after a short line.
    """
    breaks = layout.breaks_before(i)
    runs_on = not breaks and layout.tokens[i - 1].norm in rules.connectors  # "CT without contrast: ..."
    if _known_title_end(layout, i, rules) and not runs_on:
        return True
    if breaks == 0:
        return layout.tokens[i].norm in "•▪●"
    if breaks > 1 or _is_bullet(layout, i):
        return True
    word, before = layout.word(i), layout.tokens[i - 1].norm
    if word.istitle() and len(layout.word(i - 1)) > 1 and layout.word(i - 1).isupper():
        return True  # a headline in capitals: "US RENAL"
    if before in rules.connectors or before in (",", "/", "("):
        return False
    if word[:1].isupper() and not word.isupper() and not rules.file.capitalised_nouns:
        return True
    return not word[:1].islower() and not layout.line_is_full(i)


def _known_title_end(layout: _Layout, i: int, rules: Rules) -> int:
    """Returns the position after a known section title at token i, or 0.

    The title has its colon or dash, or stands alone on its line: "FINDINGS: ...", "FINDINGS - ..." and a line that
    holds "Findings" alone.
    """
    found = rules.sections.longest(layout.tokens, i)
    if found is None:
        return 0
    end = found[0]
    tokens = layout.tokens
    if end < len(tokens) and tokens[end].norm == ":":
        return end + 1
    alone = layout.breaks_before(i) and (end == len(tokens) or layout.breaks_before(end))
    dashed = layout.breaks_before(i) and end < len(tokens) and tokens[end].norm in "-–—" and layout.word(i).isupper()
    return end + 1 if dashed else end if alone else 0


def _title_end(layout: _Layout, start: int, lexicon: Lexicon, rules: Rules) -> int:
    """Returns the position after the colon of the title at token `start`, or 0 when the sentence has none.

    "Left kidney: 2 cm cyst" has the title "Left kidney"; "Pleural effusion: none" has none, since it names a finding.
    """
    known = _known_title_end(layout, start, rules)
    if known:
        return known
    tokens = layout.tokens
    for end in range(start, min(start + _LONGEST_TITLE, len(tokens))):
        norm = tokens[end].norm
        if norm == ":":
            if any(token.norm == "," for token in tokens[start:end]) and not _is_place(tokens[start:end], lexicon):
                return 0
            measured = end + 1 < len(tokens) and tokens[end + 1].norm[0].isdigit()
            is_title = end > start and not _names_finding(tokens[start:end], lexicon, measured=measured)
            return end + 1 if is_title else 0
        if norm in _DASHES and end > start and end + 1 < len(tokens):  # "Left kidney - 2 cm cyst"
            title = tokens[start:end]
            return end + 1 if _is_place(title, lexicon) and _has_site(title, lexicon) else 0
        if norm in rules.title_breakers or norm in ".;?" or (end > start and layout.breaks_before(end)):
            return 0
    return 0


def _names_finding(title: Sequence[Token], lexicon: Lexicon, *, measured: bool) -> bool:
    """Whether a title names a finding ("Pleural effusion: none"): then it belongs to the sentence.

    Some findings are organs too, and are named as such unless their size follows ("Right hilar node: 12 mm").
    """
    i = 0
    described = False  # "Multiple avid mediastinal nodes:"
    while i < len(title):
        found = lexicon.longest(title, i)
        told = measured or described
        if found and found[1].kind is WordKind.FINDING and (told or not _is_organ(title[i : found[0]], lexicon)):
            return True
        described = described or (found is not None and found[1].kind in _DESCRIBES)
        i = found[0] if found else i + 1
    return False


def _is_place(title: Sequence[Token], lexicon: Lexicon) -> bool:
    """Whether nothing but a place stands there: "Right parotid, superficial lobe"."""
    at = 0
    while at < len(title):
        found = lexicon.longest(title, at)
        if title[at].norm != "," and (found is None or found[1].kind not in _OF_PLACE):
            return False
        at = found[0] if found else at + 1
    return True


def _is_organ(term: Sequence[Token], lexicon: Lexicon) -> bool:
    """Whether a finding's term names an organ too, as "lymph nodes" does."""
    words = [token.norm for token in term]
    return " ".join([*words[:-1], lexicon.singular(words[-1])]) in lexicon.title_findings


def _opens_item(layout: _Layout, start: int) -> bool:
    """Whether a bullet or list number at the begin of a line stands before `start`."""
    at = start
    while at and not layout.breaks_before(at) and _is_list_mark(layout.tokens[at - 1].norm):
        at -= 1
    return at < start and layout.breaks_before(at) > 0


def _is_list_mark(norm: str) -> bool:
    """Whether a token may be (part of) the mark of a list's item: a bullet, "2", "." or ")"."""
    return norm in _BULLETS or norm in (".", ")") or (norm.isdigit() and len(norm) < 3)


def _follows_sentence(tokens: Sequence[Token], start: int) -> bool:
    """Whether a full stop, and no list number, stands before `start`: "Spleen normal. Left kidney: 2 cm cyst"."""
    return start > 1 and tokens[start - 1].norm in _FULL_STOPS and not tokens[start - 2].norm.isdigit()


def _leaves(sentence: Sequence[Token], title: Sequence[Token], lexicon: Lexicon) -> bool:
    """Whether a sentence speaks of another organ or side than its title: "The liver is normal" after "Left kidney:"."""
    (sites, sides), (told, told_sides) = _places(sentence, lexicon), _places(title, lexicon)
    return bool(told and sites - lexicon.parts and not sites & told) or bool(
        sides and told_sides and not sides & told_sides
    )


def _places(tokens: Sequence[Token], lexicon: Lexicon) -> tuple[set[str], set[str]]:
    """Returns the sites among the tokens, by concept or, where that covers many places, by words; and the sides."""
    sites, sides = set(), set()
    for i in range(len(tokens)):
        end, entry = lexicon.longest(tokens, i) or (i, None)
        if entry is not None and entry.kind is WordKind.SITE:
            wide = entry.concept in lexicon.wide_sites
            sites.add(" ".join(token.norm for token in tokens[i:end]) if wide else entry.concept)
        if entry is not None and entry.side:
            sides.add(entry.side)
    return sites, sides


def _has_site(title: Sequence[Token], lexicon: Lexicon) -> bool:
    """Whether a site is named among the tokens: "kidney" or "renal"."""
    found = (lexicon.longest(title, i) for i in range(len(title)))
    return any(hit is not None and hit[1].kind in (WordKind.SITE, WordKind.SITE_ADJECTIVE) for hit in found)


def _section(title: Sequence[Token], lexicon: Lexicon, rules: Rules) -> str | None:
    """Returns the kind of the known section title within `title`, the longest of several, or None."""
    found = [(hit[0] - i, hit[1]) for i in range(len(title)) if (hit := rules.sections.longest(title, i))]
    if not found:
        return None
    length, kind = max(found)
    named = kind == Reason.TECHNIQUE and length < len(title) - 1 and _has_site(title, lexicon)
    return REPORT if named else kind  # "MRI right thigh without contrast: ..." heads its findings
