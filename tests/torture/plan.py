"""What happens to whom: how each study is sent, at which step a process dies on it, what befalls the node."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal, TypeVar

from tests.torture.kills import STEPS, Step

Way = Literal[
    "clean", "aborted", "cut off", "twice", "again", "late", "split", "behind", "reported", "STOW-RS", "STOW-RS cut off"
]
"""How a modality sends a study. aborted: A-ABORT instead of a release. cut off: the sender dies in the middle and sends
all of it anew. twice: two associations at one time bring the same. again: once more when the result is delivered. late:
the last image comes after the result. split: two associations, one after the other. behind: the headers promise one
image too few; the last one comes when the protocols have been asked, and the listeners are killed before that
association ends. reported: a report comes after the result. STOW-RS: one request, and one that breaks off before it."""

Route = Literal["pacs", "web", "spare"]
"""Where results go. pacs: C-STORE with commitment. web: STOW-RS. spare: one kind of object to a PACS that rejects the
node, the other to one that is down; both have the same fallback."""

Event = Literal[
    "queue flushed",
    "queue killed",
    "database restarted",
    "PACS down",
    "PACS refusing",
    "PACS slow",
    "PACS aborting",
    "PACS mute",
    "disk full",
    "clock an hour ahead",
    "clock an hour back",
    "listener killed",
    "segmentation worker killed",
    "segmentation stalled",
    "delivery worker killed",
    "supervisor killed",
    "node killed",
    "attacked",
]
"""What befalls the node. PACS aborting: A-ABORT in the middle of a message; mute: the line drops before the answer.
stalled: the process that segments stands still for longer than its lease, then goes on. supervisor killed: `up` alone.
node killed: all its processes at once. attacked: see `tests.torture.attackers`."""

WAYS: Final[Sequence[Way]] = Way.__args__  # type: ignore[attr-defined]
ROUTES: Final[Sequence[Route]] = ("pacs", "spare", "web", "pacs")
EVENTS: Final[Sequence[Event]] = Event.__args__  # type: ignore[attr-defined]

Card = TypeVar("Card")

KILLED_SHARE: Final = 0.3  # of the studies: a process dies at a step with them
LEAVING_SHARE: Final = 0.3  # of the studies: their images are removed when nobody needs them any more
POISON_SHARE: Final = 0.02  # of the studies: the segmentation dies of them whenever it tries
STUDIES_PER_EVENT: Final = 5
SLICES: Final = (3, 7)


@dataclass(frozen=True)
class Turn:
    """One study, and what precedes its sending."""

    number: int
    slices: int
    way: Way
    step: Step | None  # a process dies here
    image: int  # with this image, where the step is about one
    poison: bool
    event: Event | None  # begins before the study is sent
    route: Route = "pacs"
    leaves: bool = False  # its images are removed in the end

    def __str__(self) -> str:
        what = [self.way, f"{self.slices} slices", f"results to {self.route}"]
        what += ["leaves"] if self.leaves else []
        what += [f"killed {self.step.name}"] if self.step else []
        what += ["poison"] if self.poison else []
        return f"study {self.number}: {', '.join(what)}" + (f"; before it: {self.event}" if self.event else "")


def seeded(seed: int, studies: int, *, without: Sequence[Event] = ()) -> list[Turn]:
    """A plan: the same seed gives the same. Ways, steps and events are dealt like cards, so that none is left out."""
    chance = random.Random(seed)
    events = [event for event in EVENTS if event not in without]
    ways, routes = _deck(chance, WAYS), _deck(chance, ROUTES)
    steps, befalls = _deck(chance, STEPS), _deck(chance, events)
    turns = []
    for number in range(studies):
        slices = chance.randrange(*SLICES)
        poison = chance.random() < POISON_SHARE or number == studies // 2
        step = next(steps) if not poison and chance.random() < KILLED_SHARE else None
        event = next(befalls) if number % STUDIES_PER_EVENT == STUDIES_PER_EVENT - 1 else None
        image, leaves = chance.randrange(slices), chance.random() < LEAVING_SHARE
        turn = Turn(number, slices, next(ways), step, image, False, event, next(routes), leaves)
        turns.append(replace(turn, way="clean", poison=True, leaves=False) if poison else _suiting(turn))
    return turns


def _suiting(turn: Turn) -> Turn:
    """The turn in which a process comes to the step."""
    match turn.step.needs if turn.step else "":
        case "dicom":
            return replace(turn, route="pacs" if turn.route == "web" else turn.route)
        case "web":
            return replace(turn, route="web")
        case "report":
            return replace(turn, way="reported")
        case "leaving":
            return replace(turn, leaves=True)
    return turn


def _deck(chance: random.Random, cards: Sequence[Card]) -> Iterator[Card]:
    """All cards shuffled, then all again."""
    while True:
        yield from chance.sample(list(cards), len(cards))


def brief(steps: Sequence[Step], events: Sequence[Event], *, poison: bool) -> list[Turn]:
    """Each step and each event once, the events spread over the studies, and a poison study at the end."""
    studies = max(len(steps), len(events))
    befalls = {index * studies // len(events): event for index, event in enumerate(events)}
    turns = [
        _suiting(
            Turn(
                number=number,
                slices=4,
                way=WAYS[number % len(WAYS)],
                step=steps[number] if number < len(steps) else None,
                image=2,
                poison=False,
                event=befalls.get(number),
                route=ROUTES[number % len(ROUTES)],
                leaves=number % 3 == 0,
            )
        )
        for number in range(studies)
    ]
    return [*turns, Turn(studies, 3, "clean", None, 0, True, None)] if poison else turns


def _deck(chance: random.Random, cards: Sequence[Card]) -> Iterator[Card]:
    """All cards shuffled, then all again."""
    while True:
        yield from chance.sample(list(cards), len(cards))
