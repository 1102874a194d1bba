"""Radiology reports, and a peer that sends them over MLLP."""

import socket
from io import BytesIO

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import BasicTextSRStorage, ExplicitVRLittleEndian

ORU = (
    "MSH|^~\\&|RIS|HOSPITAL|NODE|HOSPITAL|20240101||ORU^R01|MSG7|P|2.5.1\r"
    "PID|1||4711^^^HOSPITAL^MR~998^^^STATE||DOE^JANE\r"
    "ORC|RE|PLACER1|FILLER1\r"
    "OBR|1|PLACER1|FILLER1|71260^CT CHEST||||||||||||||acc 0042\r"
    "OBX|1|TX|^FINDINGS||Nodule in the right upper lobe.||||||F\r"
    "ZDS|1.2.3.4^RIS^Application^DICOM\r"
)


def document(**attributes: str) -> bytes:
    dataset = Dataset()
    dataset.SOPClassUID, dataset.SOPInstanceUID, dataset.Modality = BasicTextSRStorage, "1.2.3.9", "SR"
    for keyword, value in attributes.items():
        setattr(dataset, keyword, value)
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    target = BytesIO()
    dataset.save_as(target, enforce_file_format=True)
    return target.getvalue()


class Sender:
    """A peer that sends MLLP frames and reads the answers."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=10)

    def send(self, message: str) -> str:
        """The answer to a message; empty when the connection was ended instead."""
        try:
            self.send_bytes(b"\x0b" + message.encode() + b"\x1c\r")
            return self._answer()
        except ConnectionError:  # it may be over before the message is out
            return ""

    def _answer(self) -> str:
        answer = b""
        while not answer.endswith(b"\x1c\r"):
            received = self._socket.recv(65536)
            if not received:
                return ""
            answer += received
        return answer[1:-2].decode()

    def send_bytes(self, content: bytes) -> None:
        self._socket.sendall(content)

    def close(self) -> None:
        self._socket.close()


LUNG, KIDNEY = "Nodule in the right upper lobe.", "Mass in the left kidney."


def head(control_id: str = "1", patient: str = "P1", charset: str = "") -> str:
    """The header and the patient of a message."""
    return f"MSH|^~\\&|RIS|HOSP|NODE|AI|20260101||ORU^R01|{control_id}|P|2.5||||||{charset}\rPID|1||{patient}^^^HOSP\r"


def order(accession: str, *observations: str, status: str = "F", study: str = "") -> str:
    """An order of a message with its observations."""
    lines = [f"OBR|1|{accession}|{accession}|CT^CT||||||||||||||{accession}|||||||{status}", *observations]
    return "".join(f"{line}\r" for line in [*lines, *([f"ZDS|{study}^RIS"] if study else [])])


def text(words: str, status: str = "F", kind: str = "TX") -> str:
    """An observation."""
    return f"OBX|1|{kind}|F^FINDINGS||{words}||||||{status}"
