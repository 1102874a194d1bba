"""How well prompts agree with labelled reports: precision, recall, and negated findings that came through.

`python -m worker.report_language evaluate FOLDER` prints the scores; the node itself never uses them. There are four
kinds of labels, told apart by the files of the folder:
- `*labels.csv`: a report per row with 0/1 labels (the labels of evaluation.toml). A prompt counts for the labels it
  means; a label that no prompt means is missed.
- `prompt_gold.json` next to it: findings marked by hand with status and verbatim evidence. A prompt is right when it
  shares a word with a positive finding; a negated finding comes through when a prompt that shares a word with it comes
  from a sentence that holds its evidence.
- BioC XML: annotated mentions, `neg` true or not.
- `*.yaml`: reports, each with `present`, `negated` and `either`: labels of words that one prompt must hold, each the
  beginning of a word of the prompt, `a|b` either of two. A prompt is right when it holds a label of `present` or
  `either`; a present label that no prompt holds is missed; a prompt that holds no label but a negated one came through.
"""

import csv
import json
import re
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import yaml

from worker.report_language.errors import NotAReportError
from worker.report_language.extract import ExtractedPrompt, LeftOut, ReportPrompts, prompts_from_text
from worker.report_language.language.data_files import ReportLanguage

_Reader = Callable[[str], ReportPrompts]
_NO_LIMIT = 1000  # prompts
_WORD = re.compile(r"[a-z]{4,}")
_STEM = 6  # letters by which two words are the same: "nodule", "nodular"


@dataclass
class Score:
    """Counts over one set of reports."""

    name: str
    right: int = 0
    wrong: list[str] = field(default_factory=list)
    missed: list[str] = field(default_factory=list)
    no_volume: list[str] = field(default_factory=list)  # positive, and left out as nothing with a volume
    negated: int = 0
    let_through: list[str] = field(default_factory=list)

    @property
    def precision(self) -> float:
        """Right prompts among all prompts, 0 to 1; 1 where there is none."""
        return self.right / found if (found := self.right + len(self.wrong)) else 1.0

    @property
    def recall(self) -> float:
        """Right prompts among the findings that should have given one, 0 to 1; 1 where there is none."""
        return self.right / there if (there := self.right + len(self.missed)) else 1.0

    def lines(self) -> Iterator[str]:
        """Yields the score as a line for people, then a line for every miss."""
        yield (
            f"{self.name}: precision {self.precision:.3f} recall {self.recall:.3f} "
            f"({self.right} right, {len(self.wrong)} wrong, {len(self.missed)} missed, "
            f"{len(self.no_volume)} positive without a volume), "
            f"negated let through {len(self.let_through)} of {self.negated}"
        )
        for title, entries in (
            ("wrong", self.wrong), ("missed", self.missed), ("negated let through", self.let_through),
        ):  # fmt: skip
            yield from (f"  {title}: {entry}" for entry in entries)


def evaluate(folder: Path, language: ReportLanguage | None = None) -> list[Score]:
    """Scores every labelled set in a folder; `language` is that of the reports, None: English.

    Raises:
        NotAReportError: when the folder holds no labelled reports.
    """
    read = partial(prompts_from_text, language=language, limit=_NO_LIMIT)
    scores: list[Score] = []
    for table in sorted(folder.glob("*labels.csv")):
        with table.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        scores.append(_labels(rows, table.name, read))
        gold = folder / "prompt_gold.json"
        if gold.exists():
            texts = {row["AccessionNo"]: row["report_text"] for row in rows}
            marked = json.loads(gold.read_text("utf-8"))["reports"]
            scores.append(_gold({name: texts[name] for name in marked}, marked, gold.name, read))
    scores.extend(_bioc(path, read) for path in sorted(folder.glob("*.xml")))
    scores.extend(_worded(path, read) for path in sorted(folder.glob("*.yaml")))
    if not scores:
        raise NotAReportError(
            f"{folder}: holds no labelled reports (*labels.csv, prompt_gold.json, BioC *.xml, *.yaml)"
        )
    return scores


def _labels(rows: list[dict[str, str]], name: str, read: _Reader) -> Score:
    """Scores reports with 0/1 labels; a prompt that the report also denies counts as let through."""
    score = Score(name)
    meanings = tomllib.loads(Path(__file__).with_name("evaluation.toml").read_text("utf-8"))["labels"]
    for row in rows:
        result = read(row["report_text"])
        denied = {one.text.lower() for one in result.left_out if one.reason == "negated"}
        score.negated += len(denied)
        contradicted = [one.prompt for one in result.prompts if one.prompt.lower() in denied]
        score.let_through.extend(f"{row['AccessionNo']}: {prompt}" for prompt in contradicted)
        for label, meaning in meanings.items():
            meant = [prompt for prompt in result.prompts if _means(prompt, meaning)]
            if row[label] == "1" and meant:
                score.right += 1
            elif row[label] == "1":
                score.missed.append(f"{row['AccessionNo']}: {label}")
            elif meant:
                score.wrong.append(f"{row['AccessionNo']}: {label}: {meant[0].prompt} <- {meant[0].sentence}")
    return score


def _means(prompt: ExtractedPrompt, meaning: dict[str, list[str]]) -> bool:
    """Whether a prompt means a label: by the concept of its finding, and by its words."""
    return prompt.finding in meaning["findings"] and _means_text(prompt.prompt.lower(), meaning)


def _means_text(phrase: str, meaning: dict[str, list[str]]) -> bool:
    """Whether a phrase holds one of a label's words and none of its exceptions."""
    words = meaning.get("words", [""])
    return any(word in phrase for word in words) and not any(re.search(no, phrase) for no in meaning.get("unless", []))


def _gold(texts: dict[str, str], marked: dict[str, list[dict[str, Any]]], name: str, read: _Reader) -> Score:
    """Scores reports whose findings are marked by hand, with status and evidence."""
    score = Score(name)
    for report, text in texts.items():
        result = read(text)
        positive = [entry for entry in marked[report] if entry["status"] == "positive"]
        negated = [entry for entry in marked[report] if entry["status"] == "negated"]
        score.negated += len(negated)
        for entry in positive:
            if any(_same(prompt.prompt, prompt.sentence, entry) for prompt in result.prompts):
                score.right += 1
            elif _is_left_out(result, entry, "not a thing with a volume"):
                score.no_volume.append(f"{report}: {entry['finding']}")
            else:
                score.missed.append(f"{report}: {entry['finding']} <- {entry['evidence']}")
        for prompt in result.prompts:
            if not any(_alike(prompt.prompt, f"{entry['finding']} {entry['evidence']}") for entry in positive):
                score.wrong.append(f"{report}: {prompt.prompt} <- {prompt.sentence}")
        for entry in negated:
            score.let_through.extend(
                f"{report}: {prompt.prompt} <- {prompt.sentence}"
                for prompt in result.prompts
                if entry["evidence"] in prompt.sentence and _alike(prompt.prompt, entry["evidence"])
            )
    return score


def _is_left_out(result: ReportPrompts, entry: dict[str, Any], reason: str) -> bool:
    """Whether a marked finding was seen and left out for this reason."""
    return any(one.reason == reason and _same(one.text, one.sentence, entry) for one in result.left_out)


def _same(phrase: str, sentence: str, entry: dict[str, Any]) -> bool:
    """Whether a phrase from `sentence` is a finding of the gold: same words, and the evidence stands there."""
    return _alike(phrase, f"{entry['finding']} {entry['evidence']}") and bool(
        _stems(entry["evidence"]) & _stems(sentence)
    )


def _alike(phrase: str, other: str) -> bool:
    """Whether two phrases share a word of four letters or more, by its stem."""
    return bool(_stems(phrase) & _stems(other))


def _stems(text: str) -> set[str]:
    """Returns the first six letters of each word of four or more: "calcified" and "calcification" count as one."""
    return {word[:_STEM] for word in _WORD.findall(text.lower())}


def _bioc(path: Path, read: _Reader) -> Score:
    """Scores the annotated mentions of a BioC file; a mention that was left out is neither right nor missed."""
    score = Score(path.name)
    for passage in ElementTree.parse(path).iter("passage"):  # noqa: S314 - the user's own test data
        text = passage.findtext("text") or ""
        result = read(text)
        for annotation in passage.iter("annotation"):
            term = annotation.findtext("text") or ""
            negated = any(info.get("key") == "neg" for info in annotation.iter("infon"))
            prompt = next((one for one in result.prompts if _covers(one, term)), None)
            if negated:
                score.negated += 1
                score.let_through.extend([f"{term} <- {prompt.sentence}"] if prompt else [])
            elif prompt:
                score.right += 1
            elif not any(_covers(one, term) for one in result.left_out):
                score.missed.append(term)
    return score


def _covers(found: ExtractedPrompt | LeftOut, term: str) -> bool:
    """Whether a prompt, or what was left out, shares a word with the term."""
    phrase = found.prompt if isinstance(found, ExtractedPrompt) else found.text
    return _alike(phrase, term)


def _worded(path: Path, read: _Reader) -> Score:
    """Scores the reports of a YAML file, labelled by the words that prompts must hold."""
    score = Score(f"{path.parent.name}/{path.name}")
    for report in yaml.safe_load(path.read_text("utf-8")):
        prompts = read(report["text"]).prompts
        score.negated += len(report["negated"])
        for label in report["present"]:
            if any(_holds(prompt, label) for prompt in prompts):
                score.right += 1
            else:
                score.missed.append(f"{report['id']}: {label}")
        for prompt in prompts:
            if any(_holds(prompt, label) for label in (*report["present"], *report.get("either", ()))):
                continue
            told = f"{report['id']}: {prompt.prompt} <- {' '.join(prompt.sentence.split())}"
            score.wrong.append(told)
            if any(_holds(prompt, label) for label in report["negated"]):
                score.let_through.append(told)
    return score


def _holds(prompt: ExtractedPrompt, label: str) -> bool:
    """Whether every word of the label begins a word of the prompt."""
    words = re.findall(r"\w+", prompt.prompt.casefold())
    return all(any(word.startswith(tuple(part.split("|"))) for word in words) for part in label.casefold().split())
