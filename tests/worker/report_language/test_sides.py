"""Left stays left: the side of every finding, wherever in the sentence or title it stands."""

import itertools

import pytest

from worker.report_language import prompts_from_text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Right nodule and left effusion.", [("right nodule", "right"), ("left effusion", "left")]),
        ("Right kidney normal, left kidney contains a cyst.", [("cyst in the left kidney", "left")]),
        ("The left lung is clear. There is a nodule on the right.", [("nodule on the right", "right")]),
        ("Nodule in the right lung; left lung is clear.", [("nodule in the right lung", "right")]),
        (
            "In the right lung, a nodule is seen, and in the left lung, consolidation.",
            [("nodule in the right lung", "right"), ("consolidation in the left lung", "left")],
        ),
        ("Left lower lobe: consolidation.", [("consolidation in the left lower lobe", "left")]),
        ("Left lung: mass in the upper lobe.", [("mass in the upper lobe of the left lung", "left")]),
        ("RIGHT: small effusion.", [("right effusion", "right")]),
        ("Large left and small right pleural effusions.", [("left and right pleural effusions", "bilateral")]),
        ("Right pleural effusion is larger than left.", [("right pleural effusion", "right")]),
        ("Opacity in both lungs, right greater than left.", [("opacity in both lungs", "bilateral")]),
        ("Lesion in the liver abutting the right kidney.", [("lesion in the liver", "")]),
        ("The left kidney is absent; right kidney has a stone.", [("stone in the right kidney", "right")]),
        ("Normal right kidney. Left kidney shows hydronephrosis.", [("hydronephrosis in the left kidney", "left")]),
    ],
)  # fmt: skip
def test_the_side_is_the_side_of_the_finding(text: str, expected: list[tuple[str, str]]) -> None:
    assert [(prompt.prompt, prompt.side) for prompt in prompts_from_text(text).prompts] == expected


PLACED = (
    ("nodule RUL", "nodule in the RUL"),
    ("nodule in the left lung", "nodule in the left lung"),
    ("cyst in the liver", "cyst in the liver"),
    ("stone left kidney", "stone in the left kidney"),
    ("left pleural effusion", "left pleural effusion"),
    ("mass in the pancreas", "mass in the pancreas"),
)


@pytest.mark.parametrize("joint", [" and a ", ", ", " and ", " with a ", "; "])
def test_of_two_findings_with_a_place_each_keeps_its_own(joint: str) -> None:
    for (first, one), (second, other) in itertools.permutations(PLACED, 2):
        text = f"A {first}{joint}{second}."
        assert [prompt.prompt for prompt in prompts_from_text(text).prompts] == [one, other], text


TITLED = (
    "{title}: no stone. A 2 cm cyst is seen on the {side}.",
    "Spleen normal. {title}: no stone. A 2 cm cyst is seen on the {side}.",
    "{title}:\nA 2 cm cyst is seen on the {side}.",
    "{title} - A 2 cm cyst on the {side}.",
    "1. {title}: cyst on the {side}",
    "- {title}: 2 cm {side} cyst.",
    "**{title}** A 2 cm cyst on the {side}.",
    "{title}: cyst, {side}.",
)


@pytest.mark.parametrize("form", TITLED)
def test_a_sentence_of_another_side_than_its_title_speaks_of_another_organ(form: str) -> None:
    for (title, side), organ, case in itertools.product(
        itertools.permutations(("left", "right")), ("kidney", "lung", "parotid", "hip"), (str.capitalize, str.upper)
    ):
        text = form.format(title=case(f"{title} {organ}"), side=side)
        (found,) = prompts_from_text(text).prompts
        assert found.side == side, text
        assert title not in found.prompt, text
        assert organ not in found.prompt, text


def test_a_title_of_both_sides_holds_findings_of_either() -> None:
    (found,) = prompts_from_text("Both kidneys: cyst on the left.").prompts
    assert (found.prompt, found.side) == ("cyst in the left kidney", "left")
    (found,) = prompts_from_text("Right kidney: cyst on the right.").prompts
    assert found.side == "right"


# -- reports in a language that the rules do not read

GERMAN = (
    "linke Parotis mit Tumor.",
    "Parotis links: Tumor 12 mm.",
    "Tumor der Parotis links.",
    "Tumor beidseits.",
    "Zyste li. Niere.",
    "Tumor re. Lunge.",
    "Pneumothorax rechts.",
    "Pneumothorax links, rechts kein Pneumothorax.",
    "Kein Pneumothorax rechts. Pneumothorax links.",
    "Aneurysma der A. carotis interna li.",
    "Adenom der re. Nebenniere, 12 mm.",
    "Raumforderung im rechten Leberlappen.",
    "Hämatom links frontal.",
    "Karzinom der linken Mamma.",
    "Ödem bds.",
    "Tumor in re. Niere, li. o.B.",
    "Melanom rechter Arm, Metastasen in der Leber.",
    "Infarkt im Stromgebiet der A. cerebri media rechts.",
    "Abszess re > li.",
    "Fraktur der 5. Rippe links.",
    "Emphysem beider Lungen, re. betont.",
    "Lymphom links axillär.",
    "Thrombus in der V. jugularis rechts.",
    "Angiom links, rechts unauffällig.",
    "Hernie li. inguinal.",
    "Nodulus im Schilddrüsenlappen links.",
    "Zyste der linken Niere, rechte Niere unauffällig.",
    "Meningeom rechts parietal.",
    "Left: unauffällig. Right: Tumor.",
    "Tumor R. Niere.",
    "Tumor L. Niere.",
    "Sarkom des re. Oberschenkels.",
    "Tumor L3 links.",
    "Tumor im Segment 7 re.",
    "Adenom Hypophyse li.",
    "Atelektase im LUL, Konsolidation im RLL.",
    "Tumor Niere (li).",
    "Nierentumor re. 3 cm, Zyste li.",
    "Tumor in der Left Niere.",
    "Re: Tumor der Niere",
)
FRENCH = (
    "tumeur du rein gauche.",
    "nodule du lobe supérieur droit.",
    "kyste rénal gauche, rein droit normal.",
    "pneumothorax droit.",
    "hématome frontal G.",
    "nodule LSD.",
    "nodule LIG.",
    "Adénome surrénalien droit.",
    "lésion du sein gauche, sein droit sans particularité.",
    "épanchement pleural bilatéral.",
    "anévrisme de la carotide interne gauche.",
    "Nodule pulmonaire droit de 8 mm.",
    "abscess hépatique droit.",
    "tumeur parotide D.",
    "Fracture de la 5e côte gauche.",
    "Infarctus sylvien droit.",
    "pas de pneumothorax à droite, pneumothorax à gauche.",
    "kyste g. du rein.",
    "thrombus de la veine jugulaire dr.",
    "masse lobe gauche de la thyroide.",
)
SPANISH = (
    "tumor del riñón izquierdo.",
    "nódulo en lóbulo superior derecho.",
    "quiste renal izdo.",
    "quiste renal dcho.",
    "neumotórax derecho.",
    "hematoma frontal izquierdo.",
    "tumor de parótida derecha, izquierda normal.",
    "aneurisma de carótida interna izquierda.",
    "derrame pleural bilateral.",
    "absceso hepático derecho.",
    "nódulo LSD.",
    "nódulo LII.",
    "tumor I.",
    "tumor D.",
    "fractura de 5a costilla izquierda.",
    "adenoma suprarrenal dcha.",
    "trombo en vena yugular izq.",
    "masa en mama izquierda.",
    "edema right, izquierda no.",
    "Tumor renal dch. 3 cm, quiste izq.",
)


def test_a_line_in_another_language_gives_no_side_and_no_denied_finding() -> None:
    for text in (*GERMAN, *FRENCH, *SPANISH):
        for one in (text, f"FINDINGS: {text}", f"The liver is normal.\n{text}\nNo effusion."):
            found = prompts_from_text(one)
            read = [(prompt.prompt, prompt.side) for prompt in found.prompts]
            assert all(prompt in ("tumor", "nodule", "thrombus") and not side for prompt, side in read), (one, read)


@pytest.mark.parametrize(
    "text",
    [
        "Kein Pneumothorax rechts. Pneumothorax links.",
        "pas de pneumothorax à droite, pneumothorax à gauche.",
        "Tumor in re. Niere, li. o.B.",
        "Left: unauffällig. Right: Tumor.",
        "edema right, izquierda no.",
        "hematoma, sin evidencia de tumor.",
    ],
)
def test_what_is_left_out_of_another_language_is_said(text: str) -> None:
    found = prompts_from_text(text)
    assert found.prompts == ()
    assert {one.reason for one in found.left_out} == {"in another language"}


def test_the_english_lines_of_a_report_in_two_languages_are_read() -> None:
    text = "FINDINGS: Nodule in the left lung.\nNodule dans le poumon droit.\nCyst in the right kidney."
    expected = [("nodule in the left lung", "left"), ("cyst in the right kidney", "right")]
    assert [(prompt.prompt, prompt.side) for prompt in prompts_from_text(text).prompts] == expected


@pytest.mark.parametrize(
    "text",
    [
        "Leber hereditary optic atrophy; cyst in the left kidney.",
        "Cyst in the left kidney, vis-à-vis the Le Fort mass.",
    ],
)
def test_foreign_words_that_english_has_too_leave_nothing_out(text: str) -> None:
    assert prompts_from_text(text).prompts[0].prompt == "cyst in the left kidney"


def test_a_side_of_a_neighbour_is_none_of_the_finding() -> None:
    (found,) = prompts_from_text("Right lobe of liver: hemangioma left of the gallbladder.").prompts
    assert (found.prompt, found.side) == ("hemangioma in the right lobe of liver", "right")
    (found,) = prompts_from_text("Cyst left of the gallbladder.").prompts
    assert found.side == ""


def test_a_name_in_a_line_makes_it_no_other_language() -> None:
    for name in ("Dr. van der Berg", "Prof. Von und zu Stein", "Dr Bei Wang"):
        (found,) = prompts_from_text(f"2 cm nodule in the right upper lobe. Discussed with {name}.").prompts
        assert found.side == "right"
