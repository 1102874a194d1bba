"""What the words around a finding say about it: negated, uncertain, historical, resolved.

A trigger ("no", "history of") has a scope: the findings after it, before it, or both, as far as a stop ("but", "there
is"). The idea is that of NegEx (Chapman et al., J Biomed Inform 2001, 34:301) and ConText (Harkema et al., J Biomed
Inform 2009, 42:839). The longest phrase wins, so that "no change" is not read as "no".

    "No nodule, but a cyst."      scope of "no": "No nodule,"      -> nodule negated, cyst present
    "A nodule is not seen."       scope of "not seen", backwards   -> nodule negated
"""

from collections.abc import Sequence
from dataclasses import dataclass

from worker.report_language.language.patterns import PhrasePatterns
from worker.report_language.language.rules import Direction, Reason, Rules, Trigger
from worker.report_language.language.tokens import Token

# Where several reasons hold, the first of these is given: the strongest denial.
_ORDER = (
    Reason.TECHNIQUE, Reason.RECOMMENDATION, Reason.RESOLVED, Reason.NEGATED, Reason.NORMAL, Reason.HISTORICAL,
    Reason.COMPARED, Reason.UNCERTAIN,
)  # fmt: skip


_LONGEST_UNKNOWN = 2  # words that may stand before a phrase: "infarct or retraction edema"


@dataclass(frozen=True, slots=True)
class Scope:
    """Tokens `start` to `end` (exclusive) that a trigger speaks about."""

    start: int
    end: int
    reason: Reason
    touching: bool = False  # only findings whose phrase touches this scope
    until: int = 0  # if touching: the last token at which a phrase after the scope may start


@dataclass(frozen=True, slots=True)
class _Stops:
    """Per token: whether a scope that goes forward, or backward, ends there."""

    forward: Sequence[bool]
    backward: Sequence[bool]


def trigger_scopes(tokens: Sequence[Token], rules: Rules, heads: Sequence[tuple[int, int]] = ()) -> list[Scope]:
    """Finds the scope of every trigger of a sentence.

    `heads` are the tokens of its findings, as (from, to). In "No nodule, but a cyst" the scope of "no" is "No nodule,".
    A phrase that only looks like a denial ("no ... change") is one where it takes in a finding: "no cystic change".
    """
    named = {at for start, end in heads for at in range(start, end)}
    stops = _stops(tokens, rules)
    found: list[Scope] = []
    position = 0
    while position < len(tokens):
        hit = rules.context.longest(tokens, position)
        if hit is None:
            position += 1
            continue
        end, trigger = hit
        if trigger is None and not named.isdisjoint(range(position, end)):
            within = rules.triggers.longest(tokens, position)
            if within is not None and within[1].reason in (Reason.NEGATED, Reason.RESOLVED):
                end, trigger = within
        if trigger is not None:
            found.extend(_scopes(tokens, position, end, trigger, stops))
        position = end
    return found


def reason_for(head: tuple[int, int], phrase: tuple[int, int], found: Sequence[Scope]) -> Reason | None:
    """Returns why a finding gives no prompt; None when it is present.

    `head` are the tokens of the finding itself, `phrase` those of all words that describe it. Where several reasons
    hold, the strongest denial is returned: "No history of nodules" is negated, not historical.
    """
    reasons = set()
    for scope in found:
        if scope.touching:
            reached = phrase[1] == scope.start or scope.end <= phrase[0] <= scope.until
        else:
            reached = scope.start <= head[0] < scope.end
        if reached:
            reasons.add(scope.reason)
    return next((reason for reason in _ORDER if reason in reasons), None)


def is_denied(subject: int, heads: Sequence[tuple[int, int]], found: Sequence[Scope]) -> bool:
    """Whether the site at token `subject` is what is denied: "Neither adrenal gland is enlarged"."""
    return any(
        scope.reason is Reason.NEGATED
        and scope.start <= subject < scope.end
        and not any(scope.start <= head < subject for head, _ in heads)
        for scope in found
    )


def _stops(tokens: Sequence[Token], rules: Rules) -> _Stops:
    """Marks where scopes end: forward ones before the first word of a stop ("but"), backward ones after its last."""
    forward, backward = [False] * (len(tokens) + 1), [False] * (len(tokens) + 1)
    position = 0
    while position < len(tokens):
        hit = rules.stops.longest(tokens, position)
        if hit is not None:
            end, stop = hit
            forward[position] = forward[position] or not stop.backward_only
            backward[end - 1] = True
        position += 1
    return _Stops(forward, backward)


def _scopes(tokens: Sequence[Token], start: int, end: int, trigger: Trigger, stops: _Stops) -> list[Scope]:
    """Returns the scopes of the trigger at tokens `start` to `end`; one that goes both ways has two."""
    direction, reason = trigger.direction, trigger.reason
    if direction is Direction.SENTENCE:
        return [Scope(0, len(tokens), reason)]
    if direction is Direction.BETWEEN:
        until = end
        while until < min(end + _LONGEST_UNKNOWN, len(tokens)) and tokens[until].norm.isalpha():
            until += 1
        return [Scope(start, end, reason, touching=True, until=until)]
    found = []
    if direction in (Direction.FORWARD, Direction.AROUND):
        # From the trigger's own start: a phrase with a gap may hold a finding.
        found.append(Scope(start, _forward(tokens, end, trigger.stops, stops), reason))
    if direction in (Direction.BACKWARD, Direction.AROUND):
        found.append(Scope(_backward(tokens, start, trigger.stops, stops), end, reason))
    return found


def _forward(tokens: Sequence[Token], start: int, own: PhrasePatterns[bool], stops: _Stops) -> int:
    """Finds where a scope from `start` ends: at a stop, or at the parenthesis that closes around the trigger."""
    depth = 0
    for position in range(start, len(tokens)):
        norm = tokens[position].norm
        depth += (norm == "(") - (norm == ")")
        if depth < 0 or stops.forward[position] or own.longest(tokens, position):
            return position
    return len(tokens)


def _backward(tokens: Sequence[Token], end: int, own: PhrasePatterns[bool], stops: _Stops) -> int:
    """Finds where a scope back from `end` starts: after a stop, or after the parenthesis around the trigger."""
    depth = 0
    for position in range(end - 1, -1, -1):
        norm = tokens[position].norm
        depth += (norm == ")") - (norm == "(")
        if depth < 0 or stops.backward[position] or own.longest(tokens, position):
            return position + 1
    return 0
