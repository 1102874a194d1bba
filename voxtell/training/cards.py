"""Writes a model's card after a training: results carry its name, and call unknown what it was never taught."""

from dataclasses import replace

from voxtell.card import Card
from voxtell.training.dataset import Dataset
from voxtell.training.vocabulary import Vocabulary

FINE_TUNED = "fine-tuned on"
NAME_LENGTH = 64
"""Characters of the name: results carry it in an attribute of value representation LO (PS3.5 section 6.2)."""
NOTICE = "Not for diagnosis; only the structures that it was trained on, every contour needs review."


def trained(card: Card, data: Dataset, vocabulary: Vocabulary) -> Card:
    """Returns the card of a model trained from new weights, with the text encoder of `card`."""
    name = _cut(f"VoxTell trained on {data.name}")
    return with_words(Card(name, licence=data.licence, notice=NOTICE, text_encoder=card.text_encoder), vocabulary)


def fine_tuned(card: Card, data: Dataset, vocabulary: Vocabulary) -> Card:
    """Returns the card of a model that had `card` before.

    A model that takes any structure stays one; of one that lists its structures the list grows.
    """
    if FINE_TUNED not in card.name:
        licence = f"{card.licence}; {FINE_TUNED} {data.name}, {data.licence}"
        card = replace(card, name=_cut(f"{card.name} {FINE_TUNED} {data.name}"), licence=licence)
    return with_words(replace(card, notice=NOTICE), vocabulary) if card.knows else card


def with_words(card: Card, vocabulary: Vocabulary) -> Card:
    """Returns the card with a vocabulary's structures, their other words, and what is answered with an empty mask.

    A text that is taught anywhere is never listed as refused.
    """
    knows = tuple(dict.fromkeys((*card.knows, *vocabulary.names)))
    taught = dict.fromkeys((*card.taught, *vocabulary.phrasings))
    learnt = {text.casefold() for text in (*knows, *taught)}
    refused = dict.fromkeys((*card.refused, *vocabulary.negatives))
    return replace(
        card,
        knows=knows,
        taught=tuple(text for text in taught if text not in knows),
        refused=tuple(text for text in refused if text.casefold() not in learnt),
    )


def _cut(name: str) -> str:
    """Returns the name, shortened to `NAME_LENGTH` characters."""
    return name if len(name) <= NAME_LENGTH else f"{name[: NAME_LENGTH - 3]}..."
