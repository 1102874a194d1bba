"""One sentence in plain words on why a protocol takes a volume or not. Pure functions.

The findings say everything, in the words of the protocol's file; this picks what decides and says it for people. What
it has no words for is said as the finding itself is.
"""

import ast
import re
from collections.abc import Iterator, Sequence

from worker.findings import Answer, Finding, VolumeFindings

_CONDITION = re.compile(r"(?P<no>not )?(?P<name>[\w.,]+) (?P<operators>(?:equals|regex|min|max|present) .*)", re.DOTALL)
_NUMBERS = re.compile(r"(min|max) (-?[\d.e+-]+)")
_GROUPS = ("any of these", "all of these", "none of these", "not all of these")
_FIRST_PART = re.compile("; |, and ")  # what follows says what to do: `protocols check` has it
_SHOWN = 4  # names of attributes in one sentence


def why(volumes: Sequence[VolumeFindings], taken: Answer) -> str:
    """Returns why a protocol takes a series (True), does not (False), or may (None: it cannot be known yet).

    Of several volumes in the series those that give the answer are named: "EchoTime=90: 30 slices ...".
    """
    if taken:
        said = [(one.volume, _shape(one.findings)) for one in volumes if one.taken]
    elif taken is None:
        said = [(one.volume, _open(one.findings)) for one in volumes if not _fails(one.findings)]
    else:
        said = [(one.volume, _first_failure(one.findings)) for one in volumes]
    groups: dict[str, list[str]] = {}
    for volume, sentence in said:
        groups.setdefault(sentence, []).append(volume)
    named = (f"{', '.join(names)}: {sentence}" if any(names) else sentence for sentence, names in groups.items())
    return "; ".join(one for one in named if one)


def _shape(findings: Sequence[Finding]) -> str:
    """Describes the volume that is taken: "120 slices, 3.00 mm apart, axial"."""
    return next((one.found for one in findings if one.condition == "one regular volume"), "")


def _fails(findings: Sequence[Finding]) -> bool:
    return any(one.holds is False for one in findings if not one.level)


def _open(findings: Sequence[Finding]) -> str:
    """Says what cannot be known yet."""
    names = [name for finding in findings if finding.holds is None for name in _attributes(finding)]
    others = [one.condition for one in findings if one.holds is None and not one.level and not _attributes(one)]
    parts = [f"{_listed(names)} cannot be known before the images are here"] if names else []
    parts += [f"it depends on {one}" for one in others if one not in _GROUPS]
    return "; ".join(parts)


def _first_failure(findings: Sequence[Finding]) -> str:
    """Says what fails first, and how much else does."""
    failing = [place for place, one in enumerate(findings) if not one.level and one.holds is False]
    if not failing:
        return ""
    first = failing[0]
    members = _members(findings, first)
    said = _group(findings[first], members) if members else _alone(findings[first])
    more = len(failing) - 1
    return said + (f" (and {more} more condition{'s fail' if more > 1 else ' fails'})" if more else "")


def _members(findings: Sequence[Finding], place: int) -> list[Finding]:
    """Returns the findings of a group's members, one level deeper than the group."""
    level = findings[place].level
    inside = []
    for one in findings[place + 1 :]:
        if one.level <= level:
            break
        inside.append(one)
    return inside


def _group(group: Finding, members: Sequence[Finding]) -> str:
    """Says why a group fails: none of the members fits, or one fits that must not."""
    names = list(dict.fromkeys(name for one in members for name in _attributes(one)))
    if group.condition == "any of these" and names:
        words = all("regex" in one.condition for one in members if one.condition not in _GROUPS)
        return f"{_listed(names, 'nor')} {'has the words' if words else 'is as'} asked for"
    if group.condition in ("none of these", "not all of these"):
        fitting = [one for one in members if one.holds and one.condition not in _GROUPS]
        if fitting:
            return _excluded(fitting[0])
    failing = [one for one in members if one.holds is False and one.condition not in _GROUPS]
    if failing:
        return _alone(failing[0])
    return f"{group.condition}: {_listed(names)}" if names else str(group)


def _alone(finding: Finding) -> str:
    """Says why one condition fails."""
    condition = _CONDITION.fullmatch(finding.condition)
    if condition is None:
        return _excluded(finding) if finding.condition.startswith("not says ") else _of_the_node(finding)
    if condition["no"]:
        return _excluded(finding)
    name, operators, found = condition["name"], condition["operators"], finding.found
    if operators == "present False":
        return f"{name} is there ({found})"
    if found == "absent":
        return f"{name} is missing"
    if operators.startswith("equals ") and " and " not in operators:
        return f"{name} is {found}, not {_values(operators)}"
    if operators.startswith("regex ") and " and min" not in operators:
        return f"{name} is {found}, which has none of the words asked for"
    if limits := dict(_NUMBERS.findall(operators)):
        return _beyond(name, found, limits)
    return str(finding)


def _of_the_node(finding: Finding) -> str:
    """Says why a rule of the node's own fails, such as that the images are one regular volume."""
    found = finding.found.removeprefix("not: ").removeprefix("not there: ")
    starts = {
        "one regular volume": "its images are no regular volume: ",
        "a complete study": "the study is not complete yet: ",
        "nothing of the study segmented yet": "another one of the study: ",
        "a report": "there is no report: ",
        "something to segment": "there is nothing to segment: ",
    }
    if finding.condition in starts:
        return starts[finding.condition] + found
    if finding.condition == "an active protocol":
        reason = re.sub(r"^protocol '.*?' is inactive: ", "", found)
        return f"it is inactive: {_FIRST_PART.split(reason)[0]}"
    if finding.condition.startswith("region "):
        return f"it shows {found}, not {finding.condition.removeprefix('region ')}"
    if finding.condition.startswith("the best of "):
        return f"another volume is better: this is {found} of {finding.condition.removeprefix('the best of ')}"
    if finding.condition.startswith("none of "):
        return f"it is {found}, which the protocol never takes"
    return str(finding)


def _excluded(finding: Finding) -> str:
    if (says := finding.condition.removeprefix("not ")).startswith("says "):
        return f"it {says} ({finding.found}), which is excluded"
    (name, *_) = _attributes(finding) or [finding.condition]
    return f"{name} is {finding.found}, which is excluded"


def _beyond(name: str, found: str, limits: dict[str, str]) -> str:
    """Says that a number is out of its limits: "it has 2 images, at least 20 are asked for"."""
    least, most = (f"{float(limits[key]):g}" if key in limits else "" for key in ("min", "max"))
    asked = f"at least {least}" if not most else f"at most {most}" if not least else f"{least} to {most}"
    if name == "Instances":
        return f"it has {found} image{'' if found == '1' else 's'}, and {asked} are asked for"
    return f"{name} is {found}, and {asked} is asked for"


def _values(operators: str) -> str:
    """Returns the values of `equals` as people write them: "CT or PT"."""
    try:
        value = ast.literal_eval(operators.removeprefix("equals "))
    except (ValueError, SyntaxError):
        return operators.removeprefix("equals ")
    return " or ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _attributes(finding: Finding) -> list[str]:
    """Returns the attribute that a condition asks for; none for a group or a rule of the node."""
    condition = _CONDITION.fullmatch(finding.condition)
    return [condition["name"]] if condition else []


def _listed(names: Sequence[str], last: str = "and") -> str:
    """Names attributes: "A, B and C"; with "nor" as "neither A nor B"."""
    shown = list(dict.fromkeys(names))
    if len(shown) > _SHOWN:
        shown = [*shown[: _SHOWN - 1], f"{len(shown) - _SHOWN + 1} others"]
    if last == "nor" and len(shown) > 1:
        return f"none of {', '.join(shown)}"
    if last == "nor":
        return f"no {shown[0]}"
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}"


def sentence(protocol: str, taken: Answer, volumes: Sequence[VolumeFindings], *, past: bool = False) -> str:
    """Returns the first line on one protocol: "lungs does not take it: Modality is MR, not CT"."""
    verbs = {True: ("takes it", "took it"), False: ("does not take it", "did not take it"), None: ("may take it",) * 2}
    said = why(volumes, taken)
    return f"{protocol} {verbs[taken][past]}" + (f": {said}" if said else "")


def lines_of(volumes: Sequence[VolumeFindings]) -> Iterator[str]:
    """Yields every condition with its mark and indentation: "  - Modality equals 'CT': it is MR"."""
    marks = {True: "+", False: "-", None: "?"}
    for one in volumes:
        if one.volume:
            yield f"{one.volume}:"
        for finding in one.findings:
            there = f": it is {finding.found}" if finding.found else ": not known" if finding.holds is None else ""
            yield f"  {'  ' * finding.level}{marks[finding.holds]} {finding.condition}{there}"
