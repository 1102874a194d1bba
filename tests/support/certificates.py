"""Certificates for tests of TLS."""

import subprocess
from pathlib import Path

from tests.support.peers import program


class Authority:
    """A certificate authority of one test run, by the openssl program."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder = folder
        self.certificate = folder / f"{name}.pem"
        self.key = folder / f"{name}.key"
        self._openssl(self.certificate, self.key, name, "-x509", "-addext", "keyUsage=keyCertSign")

    def issue(self, name: str) -> tuple[Path, Path]:
        """Certificate and key for `name` at 127.0.0.1."""
        certificate, key = self.folder / f"{name}.pem", self.folder / f"{name}.key"
        signed = ["-x509", "-CA", str(self.certificate), "-CAkey", str(self.key)]
        self._openssl(certificate, key, name, *signed, "-addext", "subjectAltName=IP:127.0.0.1")
        return certificate, key

    def _openssl(self, certificate: Path, key: Path, name: str, *options: str) -> None:
        made = [
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-keyout",
            str(key),
            "-out",
            str(certificate),
            "-days",
            "2",
        ]
        command = [program("openssl"), "req", *made, "-subj", f"/CN={name}", *options]
        subprocess.run(command, check=True, capture_output=True)
