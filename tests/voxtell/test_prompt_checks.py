"""Prompts that deny, except, expand or relate what they name are refused; prompts that name something are not."""

import re
import tomllib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import voxtell
from voxtell.engine import check_asks
from voxtell.errors import PromptError
from voxtell.predict import FileJob, predict_files
from voxtell.prompt_checks import WORDS, check_prompts, problem_of
from voxtell.text.lexical import LEXICON

REGIONS = tomllib.loads(Path("dicom_node/regions.toml").read_text(encoding="utf-8"))
NAMES = sorted(
    {name for names in tomllib.loads(LEXICON.read_text(encoding="utf-8"))["concepts"].values() for name in names}
    - {"prv", "ptv"}
    | {alias for part in REGIONS.values() for name, entry in part.items() for alias in (name, *entry.get("also", ()))}
)
KINDS = {name: entry for name, entry in tomllib.loads(WORDS.read_text(encoding="utf-8")).items() if name != "unless"}

SAYS_MORE = {
    "denial": """no mandible|not the left parotid|NoMandible|NO MANDIBLE|mandible: none|mandible is not needed
        |the kidney that is not left|liver without tumor|neither parotid|non mandible|isn't the mandible|larynx absent
        |isn\N{RIGHT SINGLE QUOTATION MARK}t the larynx|don't draw the larynx|-mandible|kein Unterkiefer|no_mandible
        |tumour-free liver|ohne Kehlkopf""",
    "exception": """everything except the mandible|everything except the left lung|Lungs-GTV|Bowel-PTV
        |lungs minus tumour|all but the brain|body excluding the cord|rest of the lung
        |au\N{LATIN SMALL LETTER SHARP S}er der Lunge
        |Lungs_sub_GTV|Mandible-Larynx
        |anything other than the larynx|lungs less GTV""",
    "margin": """SpinalCord_PRV05|SpinalCord_PRV|Cord PRV 5 mm|cord_prv3|Brainstem PRV|cord + 5 mm|cord plus 3mm
        |cord with 5 mm margin|cord expanded by 5 mm|larynx with a margin|PTV_7000|margin of 5 mm around the cord""",
    "relative": """contralateral parotid|Parotid_Contra|ipsilateral lung|Parotid_Ipsi|the other kidney|opposite parotid
        |kidney contralateral to the left|parotid on the affected side|lung, tumour side|Niere der Gegenseite""",
    "planning": """Parotid_L_Opt|zBrainstem|z_Brainstem|~SpinalCord|SpinalCord_Ring|avoid larynx|Larynx_Avoid|GTV_Ring
        |Ring5mm|avoidance structure of the larynx|Brain_eval|zGTV|ring around the GTV""",
    "combination": """union of both lungs|intersection of liver and tumour|overlap between PET and liver
        |larynx and mandible|left lung and right kidney|Brainstem and SpinalCord|liver, spleen|liver & spleen
        |liver/spleen|liver + spleen|both lungs and the heart|tumour and left kidney|brain, brainstem and cord
        |liver or spleen|Leber und Milz|the whole liver as well as the spleen|Parotid_L and Mandible""",
}
NAMES_ONE = """right and left kidney|both parotid glands|left lung in red|non-tumorous liver|non-calcified nodule
    |8 mm nodule in the left lung|nodule with spiculated margins|non-small cell lung cancer|lymph node level no. 2
    |mass between the left kidney and the spleen|fluid surrounding the left kidney|kidney left/right|VB_L5|OpticNrv_L
    |left-to-right shunt|post-RT fibrosis in the lung|Lung_RUL|parotid to be spared|Glnd_Submand_L|A_Carotid_L
    |COVID-19 infection|tumor bed in left breast|GTVp|level II lymph nodes left|right lung, upper lobe
    |the gland behind the stomach that makes insulin|organ at risk: larynx|collateral vessels|node|nose|nodule
    |portal vein and splenic vein|kidneys left and right|cyst in the liver and spleen|nodes in the neck and axilla
    |left pleural effusion and pneumothorax|eyes and lenses|head and neck cancer|zygoma|ring-enhancing lesion
    |pelvic ring fracture|pons and medulla|Z0011 trial|lytic and sclerotic lesions|optic nerve
    |normal liver|noncalcified plaque|CTV of the breast|notochord|nonunion of the femur"""


def listed(text: str) -> list[str]:
    return [" ".join(part.split()) for part in text.split("|")]


@pytest.mark.parametrize(
    ("kind", "prompt"), [(kind, prompt) for kind in SAYS_MORE for prompt in listed(SAYS_MORE[kind])]
)
def test_what_says_more_than_a_name_is_refused_with_the_way_out(kind: str, prompt: str) -> None:
    problem = problem_of(prompt)
    assert problem is not None
    assert problem.kind == kind
    with pytest.raises(PromptError, match=f"the prompt .*{re.escape(KINDS[kind]['instead'])}$"):
        check_prompts(["larynx", prompt])


@pytest.mark.parametrize("prompt", listed(NAMES_ONE))
def test_what_only_names_something_is_taken(prompt: str) -> None:
    assert problem_of(prompt) is None


@pytest.mark.parametrize("name", NAMES)
def test_every_name_that_is_known_is_taken(name: str) -> None:
    assert problem_of(name) is None
    assert problem_of(f"left {name}") is None


CONCEPTS = tomllib.loads(LEXICON.read_text(encoding="utf-8"))["concepts"]
JOINTS = [" and ", " AND ", " & ", ", ", "/", " + ", " as well as ", " or ", ", and the "]


@given(
    concepts=st.lists(st.sampled_from(sorted(CONCEPTS)), min_size=2, max_size=4, unique=True),
    joint=st.sampled_from(JOINTS),
    side=st.sampled_from(["", "left ", "right ", "the ", "both "]),
    data=st.data(),
)
def test_two_structures_of_one_prompt_are_refused_and_two_names_of_one_are_not(concepts, joint, side, data) -> None:
    names = [data.draw(st.sampled_from(CONCEPTS[concept])) for concept in concepts]
    assert problem_of(joint.join(side + name for name in names)) is not None
    same = [data.draw(st.sampled_from(CONCEPTS[concepts[0]])) for _ in concepts]
    found = problem_of(joint.join(side + name for name in same))
    assert found is None or found.kind != "combination"


@given(
    name=st.sampled_from(NAMES),
    kind=st.sampled_from(sorted(KINDS)),
    data=st.data(),
    before=st.booleans(),
    upper=st.sampled_from([str.lower, str.upper, str.title]),
    glue=st.sampled_from([" ", "_", ", ", "  ", " the "]),
)
def test_no_name_hides_a_word_that_denies_or_relates_it(name, kind, data, before, upper, glue) -> None:
    word = data.draw(st.sampled_from(KINDS[kind]["words"]))
    if word == "non" and before:  # "non-mandibular": how something looks
        glue = " the "
    prompt = upper(glue.join((word, name) if before else (name, word)))
    assert problem_of(prompt) is not None


@given(name=st.sampled_from(NAMES), millimetres=st.integers(1, 30), form=st.sampled_from(["{}_PRV{:02}", "{} + {} mm"]))
def test_no_name_hides_a_margin(name: str, millimetres: int, form: str) -> None:
    problem = problem_of(form.format(name, millimetres))
    assert problem is not None
    assert problem.kind == "margin"


@pytest.mark.long
def test_from_python_such_a_prompt_is_an_error_and_no_window_is_run() -> None:
    engine = voxtell.load()
    image = np.zeros((8, 8, 8), np.float32)
    for ask in (engine, engine.logits):
        with pytest.raises(PromptError, match=r"prompt 2 of 2 \('no mandible'\) says what is not meant"):
            ask(image, ["larynx", "no mandible"])
    with pytest.raises(PromptError, match="with a margin"):
        check_asks(
            [voxtell.Ask("cord PRV", voxtell.Box((0, 0, 0), (1, 1, 1)))], frozenset({"text", "box"}), "any model"
        )


def test_of_files_none_is_read_when_one_prompt_is_refused(tmp_path: Path) -> None:
    jobs = [FileJob(tmp_path / "a.nii.gz", ("liver",)), FileJob(tmp_path / "b.nii.gz", ("everything but the liver",))]
    with pytest.raises(PromptError, match="'everything but the liver' asks for all but a structure"):
        predict_files(None, jobs, tmp_path / "masks")
    assert not (tmp_path / "masks").exists()
