"""Which phrases a report gives, which findings it leaves out and why: the traps of radiology language."""

import pytest

from worker.report_language import prompts_from_text
from worker.report_language.extract import DEFAULT_LIMIT


def phrases(text: str) -> list[str]:
    return [prompt.prompt for prompt in prompts_from_text(text).prompts]


def left_out(text: str) -> dict[str, str]:
    return {one.text: one.reason for one in prompts_from_text(text).left_out}


def test_the_report_of_the_contract_gives_exactly_two_phrases() -> None:
    text = "FINDINGS: 8 mm solid nodule in the right upper lobe. No pleural effusion. Stable hepatic cysts."
    result = prompts_from_text(text)
    assert [prompt.prompt for prompt in result.prompts] == ["solid nodule in the right upper lobe", "hepatic cysts"]
    nodule = result.prompts[0]
    assert nodule.sentence == "8 mm solid nodule in the right upper lobe."
    assert text[slice(*nodule.span)] == nodule.sentence
    assert (nodule.finding, nodule.site, nodule.side, nodule.status) == (
        "nodule",
        "right upper lobe",
        "right",
        "present",
    )
    assert left_out(text) == {"pleural effusion": "negated"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("There is no change in the nodule.", ["nodule"]),
        ("No significant interval change in the left adrenal adenoma.", ["left adrenal adenoma"]),
        ("No prior studies; a mass in the left kidney.", ["mass in the left kidney"]),
        ("No prior studies for comparison. There is a renal mass.", ["renal mass"]),
        ("CT without contrast, a lesion in the liver is seen.", ["lesion in the liver"]),
        ("Without intravenous contrast, a splenic lesion is seen.", ["splenic lesion"]),
        ("No pneumothorax but small left pleural effusion.", ["left pleural effusion"]),
        ("No abnormality other than a 5 mm nodule in the left lung.", ["nodule in the left lung"]),
        ("No pleural effusion, 8 mm nodule in the lingula.", ["nodule in the lingula"]),
        ("No mass; stable cyst in the spleen.", ["cyst in the spleen"]),
        ("The effusion has nearly resolved.", ["effusion"]),
        ("A nodule in the lingula which was not seen on the prior study.", ["nodule in the lingula"]),
        ("The hematoma is not significantly changed.", ["hematoma"]),
        ("Suspicious nodule in the left breast.", ["suspicious nodule in the left breast"]),
        ("Likely benign cyst in the right kidney.", ["benign cyst in the right kidney"]),
        ("Cholelithiasis without cholecystitis.", ["cholelithiasis"]),
        ("A few non-specific lymph nodes are seen.", ["non-specific lymph nodes"]),
        ("Left pleural effusion, no pneumothorax.", ["left pleural effusion"]),
        ("Punched-out lytic lesion in the left femur.", ["lytic lesion in the left femur"]),
        ("There is the presence of a mass in the liver.", ["mass in the liver"]),
        ("A few mesenteric nodes, not pathologically enlarged.", ["mesenteric nodes"]),
        ("Post-radiation fibrosis in the left lung.", ["radiation fibrosis in the left lung"]),
    ],
)
def test_what_only_sounds_denied_is_present(text: str, expected: list[str]) -> None:
    assert phrases(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "No mass, nodule or effusion.",
        "No focal consolidation or signs of pulmonary edema.",
        "IMPRESSION: No pneumothorax.",
        "Lungs: No nodules.",
        "No evidence of abscess.",
        "Pneumoperitoneum is not seen.",
        "Effusion and pneumothorax were not detected.",
        "A nodule or mass is not seen.",
        "Neither mass nor adenopathy is present.",
        "Lungs are clear of consolidation or nodules.",
        "Pulmonary nodules are absent.",
        "Negative for pulmonary embolism.",
        "Abscess has been excluded.",
        "Mass is unlikely.",
        "Pneumothorax: None.",
        "Hydronephrosis - no.",
        "Pleural effusion: No.",
        "The kidneys have no stones.",
        "No intra- or extra-axial fluid collection.",
        "No suspicious, enlarging or new nodules.",
        "No effusion. No mass. No fracture.",
        "There is no longer any pleural effusion.",
        "No nodule larger than 6 mm.",
        "NO FOCAL CONSOLIDATION, PLEURAL\nEFFUSION OR\nPNEUMOTHORAX.",
        "no\npneumothorax. no focal infiltrate, effusion or\nmass.",
        "Not present: effusion, nodules.",
        "There is nothing to suggest abscess.",
        "The common bile duct is not dilated.",
        "The liver shows no focal lesion.",
        "Disc spaces are preserved without herniation.",
        "No acute osseous abnormality, fracture, or dislocation",
        "There has been no new infarct or hemorrhage.",
        "No cystic change.",
        "No enlargement of the heart.",
        "No longer any white matter change.",
        "Inguinal nodes not enlarged.",
        "(-) nodule, effusion (-).",
    ],
)
def test_no_denied_finding_becomes_a_prompt(text: str) -> None:
    result = prompts_from_text(text, include_uncertain=True)
    assert result.prompts == ()
    assert result.left_out or "dilated" in text


@pytest.mark.parametrize(
    ("text", "finding", "reason"),
    [
        ("The pneumothorax has resolved.", "pneumothorax", "resolved"),
        ("Previously seen nodule has resolved.", "nodule", "resolved"),
        ("Interval resolution of the left effusion.", "left effusion", "resolved"),
        ("The left apical pneumothorax is no longer seen.", "left apical pneumothorax", "resolved"),
        ("Resolved pneumonia.", "pneumonia", "resolved"),
        ("Interval removal of the right chest tube.", "right chest tube", "resolved"),
        ("Rule out pulmonary embolism.", "pulmonary embolism", "uncertain"),
        ("Possible nodule in the left base.", "nodule in the left base", "uncertain"),
        ("Pneumonia cannot be excluded.", "pneumonia", "uncertain"),
        ("Viral pneumonia?", "viral pneumonia", "uncertain"),
        ("Status post resection of a left frontal meningioma.", "left frontal meningioma", "historical"),
        ("S/p resection of colon cancer.", "colon cancer", "historical"),
        ("h/o breast cancer.", "breast cancer", "historical"),
        ("On the prior study, there was a nodule.", "nodule", "historical"),
        ("TECHNIQUE: CT for the evaluation of a mass.", "mass", "technique"),
        ("COMPARISON: CT of 2019 with a liver lesion.", "liver lesion", "compared"),
        ("INDICATION: Lung mass.", "lung mass", "historical"),
        ("Lymph nodes are normal in size.", "lymph nodes", "normal"),
        ("The liver is unremarkable.", "liver", "normal"),
        (
            "Degenerative changes of the lumbar spine.",
            "degenerative changes of the lumbar spine",
            "not a thing with a volume",
        ),
        ("Mild scoliosis.", "scoliosis", "not a thing with a volume"),
        ("Fleischner guidelines apply to a nodule of this size.", "nodule", "recommendation"),
    ],
)
def test_each_thing_left_out_has_its_reason(text: str, finding: str, reason: str) -> None:
    assert phrases(text) == []
    assert left_out(text)[finding] == reason


def test_of_two_alternatives_neither_is_certain() -> None:
    text = "Right basilar opacity, atelectasis versus pneumonia."
    assert phrases(text) == ["right basilar opacity"]
    assert left_out(text) == {"atelectasis": "uncertain", "pneumonia": "uncertain"}
    everything = prompts_from_text(text, include_uncertain=True).prompts
    assert [prompt.status for prompt in everything] == ["present", "uncertain", "uncertain"]


def test_history_ends_where_the_present_begins() -> None:
    text = (
        "Patient with a history of lung cancer s/p left upper lobectomy, now with a new 2 cm mass in the right hilum."
    )
    assert phrases(text) == ["mass in the right hilum"]


def test_an_addendum_counts() -> None:
    text = "IMPRESSION: No fracture.\n\nADDENDUM: There is a nondisplaced fracture of the left 7th rib."
    assert phrases(text) == ["nondisplaced fracture of the left 7th rib"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Unchanged 2 x 3 cm cyst in the lower pole of the left kidney.", "cyst in the lower pole of the left kidney"),
        ("Stable 5 mm (previously 5 mm) nodule in the RML.", "nodule in the RML"),
        ("2.1 x 1.4 x 0.9 cm cyst, left kidney", "cyst in the left kidney"),
        ("4 mm nodule RUL (series 3, image 45).", "nodule in the RUL"),
        ("A 5 mm nodule (image 12) is seen in the right upper lobe.", "nodule in the right upper lobe"),
        ("Opacities in the right upper and left lower lobes.", "opacities in the right upper and left lower lobes"),
        ("Enlarged hilar, mediastinal, and axillary nodes.", "enlarged hilar, mediastinal, and axillary nodes"),
        ("The right kidney contains a 2 cm simple cyst.", "simple cyst in the right kidney"),
        (
            "In the left lung upper lobe, an irregular nodule is observed.",
            "irregular nodule in the left lung upper lobe",
        ),
        ("The spleen is mildly enlarged.", "enlarged spleen"),
        ("Dilated common bile duct.", "dilated common bile duct"),
        ("Small amount of free fluid in the pelvis.", "free fluid in the pelvis"),
        ("Patchy areas of consolidation in the left lower lobe.", "patchy consolidation in the left lower lobe"),
        ("There is a 12 mm hemangioma in segment 4A of the liver.", "hemangioma in segment 4A of the liver"),
        ("Fractures of the right 4th through 6th ribs.", "fractures of the right 4th through 6th ribs"),
        ("KIDNEYS: 3 mm stone on the left.", "stone in the left kidney"),
        ("Thyroid: 1.2 cm hypodense nodule in the right lobe.", "hypodense nodule in the right lobe of the thyroid"),
        ("L4-L5: Broad-based disc bulge.", "broad-based disc bulge at L4-L5"),
        ("Pleural effusion: Small, left.", "left pleural effusion"),
        ("STABLE RIGHT FRONTAL ENCEPHALOMALACIA.", "right frontal encephalomalacia"),
        ("Enhancing mass along the left frontal convexity.", "enhancing mass along the left frontal convexity"),
        ("Lesions in segments 4, 5 and 8 of the liver.", "lesions in segments 4, 5 and 8 of the liver"),
        ("Segment 6: 9 mm lesion.", "lesion in segment 6"),
        ("C3-4: Right uncovertebral spur.", "right uncovertebral spur at C3-4"),
        ("Both kidneys show parapelvic cysts.", "parapelvic cysts in both kidneys"),
        ("Cartilage defect, 12 mm, of the medial femoral condyle.", "cartilage defect of the medial femoral condyle"),
        ("A cyst of 41 mm in the left ovary.", "cyst in the left ovary"),
        ("Scar in the inferior wall.", "scar in the inferior wall"),
        ("Ileocaecal fistula.", "ileocaecal fistula"),
        ("Hernia: small, umbilical.", "umbilical hernia"),
        ("Haemangioma T9.", "haemangioma at T9"),
        ("Uterus is anteverted and enlarged.", "enlarged uterus"),
        ("Dilated, fluid-filled appendix.", "dilated, fluid-filled appendix"),
        ("The ureters are dilated on the left.", "dilated ureters on the left"),
        ("The ventricles are dilated in the left hemisphere.", "dilated ventricles"),
        ("There is a mass, on the right, in the lower pole of the kidney.", "mass on the right"),
        ("Tumour thrombus extends into the left renal vein.", "tumour thrombus extends into the left renal vein"),
    ],
)
def test_the_phrase_keeps_look_and_place_and_drops_size_and_change(text: str, expected: str) -> None:
    assert phrases(text) == [expected]


@pytest.mark.parametrize(
    ("text", "side"),
    [
        ("RUL nodule.", "right"),
        ("Nodule in the left lung.", "left"),
        ("Nodules in both lungs.", "bilateral"),
        ("Cyst in the right kidney and left kidney.", "bilateral"),
        ("Cysts bilaterally.", "bilateral"),
        ("Cyst in the liver.", ""),
    ],
)
def test_the_side_is_kept(text: str, side: str) -> None:
    assert [prompt.side for prompt in prompts_from_text(text).prompts] == [side]


def test_the_impression_repeats_the_findings_and_adds_no_prompt() -> None:
    text = (
        "FINDINGS: 8 mm solid nodule in the right upper lobe. The nodule is spiculated. Left renal cyst.\n"
        "IMPRESSION:\n1. RUL nodule.\n2. Right renal cyst."
    )
    assert phrases(text) == ["solid nodule in the right upper lobe", "left renal cyst", "right renal cyst"]
    assert left_out(text) == {"nodule": "repeated", "RUL nodule": "repeated"}


@pytest.mark.parametrize(
    "text",
    [
        "Fracture of the left femur. Fracture of the left tibia.",
        "Cyst in segment 4 of the liver. Cyst in segment 7 of the liver.",
        "Acute infarct in the left frontal lobe. Acute infarct in the left cerebellum.",
        "Left 4th rib fracture. Left 7th rib fracture.",
        "ET tube in place. NG tube in place.",
        "Left lung: mass in the upper lobe. Right lung: mass in the upper lobe.",
        "Disc protrusion at L3-L4. Disc protrusion at L4-L5.",
        "Renal stone. Bladder stone.",
        "Stone in the proximal ureter. Stone in the distal ureter.",
    ],
)
def test_the_same_finding_in_another_place_is_another_prompt(text: str) -> None:
    assert len(phrases(text)) == 2


def test_a_side_in_the_title_is_kept() -> None:
    (prompt,) = prompts_from_text("Right kidney: 2 cm cyst in the upper pole.").prompts
    assert (prompt.prompt, prompt.side) == ("cyst in the upper pole of the right kidney", "right")


def test_the_limit_says_what_it_leaves_out() -> None:
    organs = ["liver", "spleen", "pancreas", "left kidney", "right kidney"]
    text = "\n".join(f"- Cyst in the {organ}." for organ in organs)
    result = prompts_from_text(text, limit=3)
    assert [prompt.prompt for prompt in result.prompts] == [f"cyst in the {organ}" for organ in organs[:3]]
    assert {one.reason for one in result.left_out} == {"over the limit"}
    assert len(organs) < DEFAULT_LIMIT


def test_findings_that_share_a_place_both_get_it() -> None:
    text = "Nodules and consolidation in the left lower lobe."
    assert phrases(text) == ["nodules in the left lower lobe", "consolidation in the left lower lobe"]


def test_plain_structures_for_json() -> None:
    result = prompts_from_text("Cyst in the left kidney. No mass.").to_json()
    assert result["prompts"][0]["prompt"] == "cyst in the left kidney"
    assert result["left_out"] == [{"text": "mass", "sentence": "No mass.", "reason": "negated"}]


def test_what_comes_with_a_finding_lies_where_it_lies() -> None:
    found = prompts_from_text("12 mm calculus in the left renal pelvis with moderate hydronephrosis.")
    assert [one.prompt for one in found.prompts] == [
        "calculus in the left renal pelvis",
        "hydronephrosis in the left renal pelvis",
    ]
