"""The evaluation counts what is right, wrong, missed and let through, and holds its aim on the shared reports."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from worker.report_language.__main__ import main
from worker.report_language.evaluation.scores import evaluate


@pytest.mark.long
def test_real_chest_ct_reports_hold_the_aim(shared_data: Callable[..., Path]) -> None:
    labels, gold = evaluate(shared_data("reports_chestct"))
    assert labels.precision >= 0.95
    assert labels.recall >= 0.95
    assert gold.precision >= 0.95
    assert gold.recall >= 0.95
    assert (labels.let_through, gold.let_through) == ([], [])


def test_real_annotated_mentions(shared_data: Callable[..., Path]) -> None:
    scores = evaluate(shared_data("reports_negbio"))
    assert sum(score.negated for score in scores) == 2
    assert [miss for score in scores for miss in (*score.missed, *score.let_through)] == []


@pytest.mark.long
def test_a_folder_of_labelled_reports_is_scored(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "labels.csv").write_text(
        "AccessionNo,report_text,Medical material,Arterial wall calcification,Cardiomegaly,Pericardial effusion,"
        "Coronary artery wall calcification,Hiatal hernia,Lymphadenopathy,Emphysema,Atelectasis,Lung nodule,"
        "Lung opacity,Pulmonary fibrotic sequela,Pleural effusion,Mosaic attenuation pattern,Peribronchial thickening,"
        "Consolidation,Bronchiectasis,Interlobular septal thickening\n"
        'a,"Nodule in the left lung. No pleural effusion. Emphysema.",' + ",".join("000000100100000000") + "\n",
        "utf-8",
    )
    gold = [
        {"finding": "lung nodule", "status": "positive", "evidence": "Nodule in the left lung"},
        {"finding": "pleural effusion", "status": "negated", "evidence": "No pleural effusion"},
    ]
    (tmp_path / "prompt_gold.json").write_text(json.dumps({"reports": {"a": gold}}), "utf-8")
    assert main(["evaluate", str(tmp_path)]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].startswith("labels.csv: precision 0.500 recall 0.500 (1 right, 1 wrong, 1 missed")
    assert "  missed: a: Lymphadenopathy" in printed
    assert "prompt_gold.json: precision 0.500 recall 1.000" in "\n".join(printed)


def test_a_folder_without_labels_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", str(tmp_path)]) == 1
    assert "holds no labelled reports" in capsys.readouterr().err


def test_labels_in_words_are_scored(tmp_path: Path) -> None:
    (tmp_path / "reports.yaml").write_text(
        "- id: one\n"
        "  text: Cyst in the left kidney. Nodule in the liver. Spleen stone. No mass.\n"
        "  present: [cyst left kidney, nodule right|dome]\n"
        "  negated: [mass, spleen stone]\n"
        "  either: [nodule liver]\n"
    )
    (score,) = evaluate(tmp_path)
    assert (score.right, score.missed, score.negated) == (1, ["one: nodule right|dome"], 2)
    assert score.wrong == score.let_through == ["one: spleen stone <- Spleen stone."]


@pytest.mark.long
def test_invented_reports_of_the_whole_body() -> None:
    """a and d were tuned on, b and e looked at once; nothing was corrected because of a miss in c and f."""
    least = {
        "heldout_a": 0.98,
        "heldout_b": 0.95,
        "heldout_c": 0.95,
        "heldout_d": 0.98,
        "heldout_e": 0.95,
        "heldout_f": 0.95,
    }
    for name, limit in least.items():
        (score,) = evaluate(Path(__file__).with_name(name))
        assert min(score.precision, score.recall) >= limit, name
        assert score.let_through == [], name
