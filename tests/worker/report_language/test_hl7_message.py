"""HL7 v2 messages as systems send them: no text is lost, none is mixed, and nothing that was withdrawn is read."""

import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.examples import examples
from tests.support.reports import KIDNEY, LUNG, head, order, text
from worker.report_language import NotAReportError, ReportError, ReportTooLargeError, prompts_from_text
from worker.report_language.formats.hl7_message import MOST_SEGMENTS, Delimiters
from worker.report_language.formats.oru import MOST_ORDERS
from worker.report_language.formats.read import report_links, report_text, single_reports

LUNG_PROMPT, KIDNEY_PROMPT = "nodule in the right upper lobe", "mass in the left kidney"


def read(message: str | bytes) -> dict[str, list[str]]:
    """The prompts of each report of a message, by accession number."""
    content = message if isinstance(message, bytes) else message.encode()
    found = {}
    for report in single_reports(content):
        assert single_reports(report) == [report]
        prompts = [prompt.prompt for prompt in prompts_from_text(report_text(report)).prompts]
        found[report_links(report).accession] = prompts
    return found


# -- what separates segments


def test_a_line_feed_in_a_field_is_text_where_carriage_returns_separate() -> None:
    message = head() + order("A", text(f"Mass in the\nleft kidney.\n{LUNG}"))
    assert read(message) == {"A": [KIDNEY_PROMPT, LUNG_PROMPT]}
    assert read(message.replace("\r", "\r\n")) == {"A": [KIDNEY_PROMPT, LUNG_PROMPT]}


@pytest.mark.parametrize("separator", ["\r", "\n", "\r\n", "\r\r", "\r\n\r\n"])
@pytest.mark.parametrize("lead", ["", "\r\n", "\x0b", "\ufeff"])
def test_every_way_to_end_a_segment_gives_the_same(separator: str, lead: str) -> None:
    message = head() + order("A", text(LUNG), text(KIDNEY))
    assert read(lead + message.replace("\r", separator)) == {"A": [LUNG_PROMPT, KIDNEY_PROMPT]}


@pytest.mark.parametrize("separator", ["\r", "\n"])
def test_a_line_that_is_no_segment_belongs_to_the_field_before_it(separator: str) -> None:
    """As where a system sends the line ends of its text as they are."""
    message = (head() + order("A", text(f"Mass in the#left kidney. #{LUNG}"))).replace("\r", separator)
    assert read(message.replace("#", separator)) == {"A": [KIDNEY_PROMPT, LUNG_PROMPT]}


def test_segments_that_are_separated_in_two_ways_are_refused() -> None:
    message = head() + order("A", f"{text(LUNG)}\n{text(KIDNEY)}")
    with pytest.raises(NotAReportError, match="some segments by line feeds and some by carriage returns; send CR"):
        read(message)


@given(st.lists(st.text(alphabet="ab .\n", min_size=1, max_size=12).filter(str.strip), min_size=1, max_size=5))
@examples(100)
def test_every_word_of_every_observation_is_in_the_text(parts: list[str]) -> None:
    words = [f"{part}end{number}" for number, part in enumerate(parts)]
    found = report_text((head() + order("A", *map(text, words))).encode())
    assert "".join(found.split()) == "".join("".join(words).split())


# -- what was withdrawn


@pytest.mark.parametrize("status", ["W", "D", "X", "w", " D "])
def test_an_observation_that_was_withdrawn_is_not_read_beside_its_correction(status: str) -> None:
    message = head() + order("A", text(KIDNEY, status), text("Mass in the right kidney.", "C"))
    assert read(message) == {"A": ["mass in the right kidney"]}


@pytest.mark.parametrize(
    "name",
    [
        "PRIOR^Prior report",
        "^Previous Findings",
        "PRIOR_REPORT",
        "55114-3^Vorbefund^LN",
        "18834-2^Comparison study^LN",
        "COMPARISON",
    ],
)
def test_an_earlier_report_within_a_report_is_not_read_as_this_one(name: str) -> None:
    message = head() + order("A", text(KIDNEY).replace("F^FINDINGS", name), text(LUNG))
    assert name in message
    assert read(message) == {"A": [LUNG_PROMPT]}


@pytest.mark.parametrize(
    "name",
    ["GDT^Report", "59776-5^Findings^LN", "OLDHAM^Report", "^Priority findings", "^Old infarct", "^Previous surgery"],
)
def test_other_names_of_observations_hide_nothing(name: str) -> None:
    assert read(head() + order("A", text(KIDNEY).replace("F^FINDINGS", name))) == {"A": [KIDNEY_PROMPT]}


@pytest.mark.parametrize(
    "message",
    [
        head() + order("A", text(LUNG), status="X"),
        head() + order("A", text(LUNG, "W"), text(KIDNEY, "D")),
        head() + order("A", text(LUNG, "W")) + order("B", text(KIDNEY), status="X"),
    ],
)
def test_a_report_that_was_taken_back_is_none_whichever_way_it_comes(message: str) -> None:
    for function in (single_reports, report_text, report_links):
        with pytest.raises(NotAReportError, match=r"taken back by its sender \(OBR-25 or OBX-11\); send the valid one"):
            function(message.encode())


def test_of_two_orders_the_one_that_stands_is_read() -> None:
    assert read(head() + order("A", text(LUNG), status="X") + order("B", text(KIDNEY))) == {"B": [KIDNEY_PROMPT]}


# -- several orders, patients, messages


def test_each_order_is_a_report_of_its_own() -> None:
    message = head() + order("CHEST", text(LUNG)) + order("ABDO", text(KIDNEY))
    assert read(message) == {"CHEST": [LUNG_PROMPT], "ABDO": [KIDNEY_PROMPT]}
    with pytest.raises(NotAReportError, match="holds the reports of 2 orders; give each by itself"):
        report_text(message.encode())


@pytest.mark.parametrize("control", ["", "ORC|RE|X|Y\r"])
@pytest.mark.parametrize("texts", [0, 1])
def test_a_text_for_orders_that_were_reported_together_goes_to_each(control: str, texts: int) -> None:
    observations = [(), (text(f"{LUNG} {KIDNEY}"),)]
    first, second = observations if texts else observations[::-1]
    message = head() + control + order("CHEST", *first) + control + order("ABDO", *second)
    both = [LUNG_PROMPT, KIDNEY_PROMPT]
    assert read(message) == {"CHEST": both, "ABDO": both}


@pytest.mark.parametrize(("accession", "study"), [("B", "1.2.3"), ("A", "1.2.3"), ("A", "")])
def test_orders_of_one_study_are_one_report(accession: str, study: str) -> None:
    """Of several reports on a study the last one counts: as two, the second would replace the first."""
    message = head() + order("A", text(LUNG), study=study) + order(accession, text(KIDNEY), study=study)
    assert single_reports(message.encode()) == [message.encode()]
    assert read(message) == {"A": [LUNG_PROMPT, KIDNEY_PROMPT]}


def test_two_patients_of_one_message_stay_apart() -> None:
    message = head() + order("A", text(LUNG)) + "PID|1||P2^^^HOSP\r" + order("B", text(KIDNEY))
    assert read(message) == {"A": [LUNG_PROMPT], "B": [KIDNEY_PROMPT]}
    links = [report_links(report) for report in single_reports(message.encode())]
    assert [link.patient_ids for link in links] == [{"P1"}, {"P2"}]


def test_a_text_of_one_patient_is_never_lent_to_another() -> None:
    message = head() + order("A", text(LUNG)) + "PID|1||P2^^^HOSP\r" + order("B")
    first, second = single_reports(message.encode())
    assert LUNG in report_text(first)
    with pytest.raises(NotAReportError, match="no report text"):
        report_text(second)


def test_an_order_that_names_nothing_beside_one_that_does_is_refused() -> None:
    with pytest.raises(NotAReportError, match="its order 2 names no study and no accession number"):
        single_reports((head() + order("A", text(LUNG)) + order("", text(KIDNEY))).encode())


def test_two_messages_in_one_are_refused() -> None:
    message = head("1") + order("A", text(LUNG)) + head("2", "P2") + order("B", text(KIDNEY))
    for content in (message, f"BHS|^~\\&|RIS\r{message}BTS|2\r"):
        with pytest.raises(NotAReportError, match="holds 2 messages; send each in a frame of its own"):
            single_reports(content.encode())


def test_the_envelope_of_a_batch_is_left_out() -> None:
    message = "FHS|^~\\&|RIS\rBHS|^~\\&|RIS\r" + head() + order("A", text(LUNG)) + "BTS|1\rFTS\r"
    assert read(message) == {"A": [LUNG_PROMPT]}


# -- delimiters and character sets


@pytest.mark.parametrize(("old", "new"), [("^", "@"), ("|", "$"), ("~", "*"), ("\\", "!"), ("&", "%")])
def test_a_message_brings_its_own_delimiters(old: str, new: str) -> None:
    message = head() + order("A", text("Mass in the left kidney.~Nodule in\\.br\\the right upper lobe."))
    found = read(message.replace(old, new))
    assert found == read(message)
    assert found["A"]


@pytest.mark.parametrize(
    ("charset", "codec", "words"),
    [
        ("UNICODE UTF-8", "utf-8", "Läsion, гематома, 結節"),
        ("", "utf-8", "Läsion"),
        ("", "cp1252", "Läsion"),
        ("8859/1", "iso8859-1", "Läsion"),
        ("8859/1", "utf-8", "Läsion"),  # as some say that send UTF-8
        ("8859/2", "iso8859-2", "guz w płucu"),
        ("8859/5", "iso8859-5", "гематома"),
        ("8859/7", "iso8859-7", "όζος"),
        ("8859/9", "iso8859-9", "ığış"),
        ("8859/15", "iso8859-15", "œdème"),
        ("WINDOWS-1251", "cp1251", "гематома"),
        ("ISO IR87", "iso2022_jp", "結節"),
        ("~ISO IR87", "utf-8", "結節"),
        ("GB 18030-2000", "gb18030", "结节"),
        ("KS X 1001", "euc_kr", "결절"),
        ("BIG-5", "big5", "結節"),
        ("UNICODE UTF-16", "utf-16", "Läsion 結節"),
        ("UNICODE UTF-16", "utf-16-le", "Läsion 結節"),
        ("UNICODE UTF-16", "utf-16-be", "Läsion 結節"),
    ],
)
def test_the_character_set_of_msh_18_is_read(charset: str, codec: str, words: str) -> None:
    message = (head(charset=charset) + order("A", text(f"{words}. {LUNG}"))).encode(codec)
    assert report_text(message) == f"{words}. {LUNG}"
    assert read(message)["A"][-1] == LUNG_PROMPT


def test_a_part_of_a_message_keeps_its_letters() -> None:
    message = head(charset="8859/2") + order("A", text(f"guz w płucu. {LUNG}")) + order("B", text(KIDNEY))
    first, _ = single_reports(message.encode("iso8859-2"))
    assert report_text(first) == f"guz w płucu. {LUNG}"


@given(st.text(max_size=40))
def test_an_escaped_text_holds_no_delimiter(words: str) -> None:
    assert not set("|^~&") & set(Delimiters().escaped(words))


# -- how much


def test_a_large_message_takes_no_more_than_a_few_times_its_bytes() -> None:
    report = head() + order("A", text(LUNG), f"OBX|2|ED|PDF||^application^pdf^Base64^{'A' * 7_500_000}||||||F")
    tracemalloc.start()
    assert read(report) == {"A": [LUNG_PROMPT]}
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10 * len(report)


@pytest.mark.parametrize("separator", ["\r", "\n"])
def test_segments_are_counted_before_they_are_split(separator: str) -> None:
    message = (head() + order("A", text(LUNG)) + "OBX|1|TX|||a\r" * MOST_SEGMENTS).replace("\r", separator)
    tracemalloc.start()
    with pytest.raises(ReportError, match=f"more than {MOST_SEGMENTS} segments or lines; send the report alone"):
        read(message)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 6 * len(message), "a segment split from the others takes some hundred bytes"


def test_a_message_of_more_orders_than_anybody_reports_together_is_refused() -> None:
    """Each of 9,800 orders looked for its text among all others, for half a minute."""
    many = "".join(order(f"A{number}", text(LUNG)) for number in range(MOST_ORDERS))
    assert len(single_reports((head() + many).encode())) == MOST_ORDERS
    with pytest.raises(ReportTooLargeError, match=f"more than {MOST_ORDERS} orders"):
        single_reports((head() + many + order("B", text(LUNG))).encode())


def test_a_report_that_speaks_of_a_gene_is_no_message() -> None:
    assert report_text(b"MSH-6 mutation. Nodule in the right upper lobe.").startswith("MSH-6")
