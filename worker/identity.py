"""Identity: what makes two jobs one job, and two versions of a protocol one version.

| what | made of | changes when |
|---|---|---|
| job id | images, their revision, protocol's digest, prompts, model, engine, outputs | the work is another one |
| protocol's digest | everything in the protocol that decides a result | results may become others |
| UIDs of results (in `dicom_node`) | images, revision, prompts, protocol's digest, `ModelInfo.identity` | likewise |

All of them are digests of the same canonical bytes (`dicom_node.uids.fingerprint`). A fact that stands at its default
is left out, so that a field which a later release adds changes no identity. That holds while two rules do: the default
of a field means what the program did before the field was there, and a default is never changed.

The ids of jobs that are in a ledger already are whatever they were made of then: see `same_work`.
"""

from collections.abc import Collection, Mapping
from typing import Any

from pydantic import BaseModel

from dicom_node.uids import fingerprint

DIGITS = 16
"""Hexadecimal digits of a digest: 64 bits, which tell a billion jobs apart."""


def digest_of(facts: Any) -> str:
    """Returns 16 hexadecimal digits of facts that JSON can hold."""
    return fingerprint(facts).hex()[:DIGITS]


def deciding_facts(value: BaseModel, circumstances: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the fields of a model as JSON, without `circumstances` and without those that stand at their default.

    circumstances: names of fields that decide nothing, each with True, or with the names within it, as pydantic takes
    them.
    """
    return value.model_dump(mode="json", exclude=dict(circumstances), exclude_defaults=True)


def revision_of(replacements: Mapping[str, int], instances: Collection[str]) -> str:
    """Returns what told the content of images from earlier content before the ledger had digests of it.

    Jobs of that time hold it as their revision (`worker.selection.contents`); "" where none was replaced.
    `replacements`: how often each was (`dicom_node.store.Store.replacements`).
    """
    replaced = sorted((uid, count) for uid, count in replacements.items() if uid in set(instances))
    return digest_of(replaced) if replaced else ""
