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

    def issue(self, name: str, *, at: str = "IP:127.0.0.1") -> tuple[Path, Path]:
        """Certificate and key for `name`, valid where `at` says."""
        certificate, key = self.folder / f"{name}.pem", self.folder / f"{name}.key"
        signed = ["-x509", "-CA", str(self.certificate), "-CAkey", str(self.key)]
        self._openssl(certificate, key, name, *signed, "-addext", f"subjectAltName={at}")
        return certificate, key

    def issue_for(self, name: str, first: str, last: str) -> tuple[Path, Path]:
        """The same, valid from one date to another, written as 20200101."""
        certificate, key = self.folder / f"{name}.pem", self.folder / f"{name}.key"
        request, settings = self.folder / f"{name}.csr", self.folder / "ca.cnf"
        self._openssl(request, key, name, "-addext", "subjectAltName=IP:127.0.0.1")
        (self.folder / "index.txt").touch()
        settings.write_text(
            "[ca]\ndefault_ca=here\n[here]\ndatabase=index.txt\nnew_certs_dir=.\nrand_serial=yes\ndefault_md=sha256\n"
            "policy=any\ncopy_extensions=copy\n[any]\ncommonName=supplied\n"
        )
        command = [program("openssl"), "ca", "-batch", "-config", settings, "-cert", self.certificate, "-notext"]
        command += ["-keyfile", self.key, "-in", request, "-out", certificate]
        command += ["-startdate", f"{first}000000Z", "-enddate", f"{last}000000Z"]
        subprocess.run(command, check=True, capture_output=True, cwd=self.folder)
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
            *(["-days", "2"] if "-x509" in options else []),
        ]
        command = [program("openssl"), "req", *made, "-subj", f"/CN={name}", *options]
        subprocess.run(command, check=True, capture_output=True)
