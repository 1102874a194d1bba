"""OHIF as a peer: the viewer from npm before a PACS, in Debian's Chromium, used as a person would.

OHIF is a web page that speaks DICOMweb. One small server gives out the page and passes what goes to `/dicom-web` on to
the PACS, so that both have one address, as behind a hospital's proxy.
"""

import contextlib
import json
import mimetypes
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from playwright.sync_api import Browser, ConsoleMessage, Page, sync_playwright

from tests.support.peers import program
from tests.support.ports import LOOPBACK, free_port

PACKAGE = Path(sys.prefix) / "npm" / "@ohif" / "app" / "dist"
MILLISECONDS = 90_000  # a loaded machine may take long; a hang must still end

# Chromium computes what a graphics card would.
_OPTIONS = ["--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--ignore-gpu-blocklist"]
_TYPES = {".js": "text/javascript", ".wasm": "application/wasm", ".css": "text/css", ".html": "text/html"}
_SOURCE = {
    "namespace": "@ohif/extension-default.dataSourcesModule.dicomweb",
    "sourceName": "pacs",
    "configuration": {
        "friendlyName": "the PACS",
        "name": "pacs",
        "qidoRoot": "/dicom-web",
        "wadoRoot": "/dicom-web",
        "qidoSupportsIncludeField": False,
        "imageRendering": "wadors",
        "thumbnailRendering": "wadors",
        "enableStudyLazyLoad": True,
        "supportsFuzzyMatching": False,
        "supportsWildcard": True,
        "omitQuotationForMultipartRequest": True,
        "bulkDataURI": {"enabled": True},
    },
}
_SETTINGS = {
    "routerBasename": "/",
    "extensions": [],
    "modes": [],
    "maxNumberOfWebWorkers": 2,
    "showCPUFallbackMessage": False,
    "investigationalUseDialog": {"option": "never"},
    "strictZSpacingForVolumeViewport": True,
    "defaultDataSourceName": "pacs",
}


class _Front(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, pacs: str, source: dict[str, Any]) -> None:
        self.pacs, self.requests = pacs, list[tuple[str, int]]()
        configuration = {**_SOURCE["configuration"], **source}  # type: ignore[dict-item]
        settings = {**_SETTINGS, "dataSources": [{**_SOURCE, "configuration": configuration}]}
        self.settings = f"window.config = {json.dumps(settings)};".encode()
        super().__init__((LOOPBACK, free_port()), _Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Passes over connections that a page drops when it is left."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Front

    def do_GET(self) -> None:  # the name is that of the library
        path = self.path.partition("?")[0]
        if path.startswith("/dicom-web"):
            self._answer(*self._from_pacs())
        elif path == "/app-config.js":
            self._answer(200, "text/javascript", self.server.settings)
        else:
            file = PACKAGE / path.lstrip("/")
            file = file if file.is_file() else PACKAGE / "index.html"  # OHIF's own pages are all this one
            kind = _TYPES.get(file.suffix) or mimetypes.guess_type(file.name)[0] or "application/octet-stream"
            self._answer(200, kind, file.read_bytes())

    def log_message(self, *_arguments: object) -> None:
        """Nothing is written to stderr."""

    def _from_pacs(self) -> tuple[int, str, bytes]:
        request = urllib.request.Request(self.server.pacs + self.path, headers={"Accept": self.headers["Accept"]})
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                found = answer.status, answer.headers["Content-Type"], answer.read()
        except urllib.error.HTTPError as error:
            found = error.code, error.headers["Content-Type"], error.read()
        self.server.requests.append((self.path, found[0]))
        return found

    def _answer(self, status: int, kind: str, body: bytes) -> None:
        with contextlib.suppress(ConnectionError):  # a page that is left asks for nothing more
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)


@dataclass
class Ohif:
    """OHIF at an address, and the browser that shows it. `requests`: what it asked the PACS for, and each status."""

    address: str
    browser: Browser
    requests: list[tuple[str, int]]

    @contextlib.contextmanager
    def study(self, study_uid: str, series: int) -> Iterator["StudyPage"]:
        """The page of a study of that many series, once it lists all of them."""
        page = self.browser.new_page(viewport={"width": 1000, "height": 700})
        page.set_default_timeout(MILLISECONDS)
        page.add_init_script("localStorage.setItem('shownTours', JSON.stringify(['basicViewerTour']))")
        page.add_init_script(path=Path(__file__).with_suffix(".js"))
        shown = StudyPage(page)
        page.on("pageerror", lambda error: shown.errors.append(str(error)))
        page.on("console", shown.hear)
        try:
            page.goto(f"{self.address}/viewer?StudyInstanceUIDs={study_uid}")
            page.wait_for_function("count => asked.displaySets().length >= count", arg=series)
            yield shown
        finally:
            page.close()


@dataclass
class StudyPage:
    """A study in OHIF. `errors`: what the page reported to its console."""

    page: Page
    errors: list[str] = field(default_factory=list)

    def hear(self, message: ConsoleMessage) -> None:
        """Keeps an error of the console."""
        if message.type == "error":
            self.errors.append(message.text)

    def open(self, modality: str) -> None:
        """Opens the object of that modality by a double click in the list of series."""
        rows = self.page.locator("[data-cy=study-browser-thumbnail-no-image]")
        rows.filter(has_text=modality).first.dblclick()
        self.page.wait_for_function("modality => asked.modalityInView() === modality", arg=modality)

    def series_under(self, modality: str) -> str:
        """The Series Instance UID of the images under an object; "" until OHIF has found them."""
        return str(self.page.evaluate("modality => asked.seriesUnder(modality)", modality))

    def structures(self) -> dict[str, tuple[int, int, int]]:
        """Name and colour of each structure that lies over the image in view."""
        return {label: tuple(colour) for label, colour in self.page.evaluate("() => asked.structures()")}

    def loads(self) -> bool:
        """Whether OHIF says over the image that it loads an object."""
        return self.page.get_by_text("Loading").count() > 0

    def shows(self, sop_uid: str) -> bool:
        """Whether the images in view have a slice."""
        return bool(self.page.evaluate("uid => asked.shows(uid)", sop_uid))

    def go_to(self, sop_uid: str, frame: int | None) -> None:
        """Scrolls to a slice, once the images in view have it."""
        self.page.wait_for_function("slice => asked.goTo(slice)", arg=[sop_uid, frame])

    def places(self, points: list[list[float]]) -> list[tuple[float, float]]:
        """Where points in LPS millimetres are on the page: column and row in pixels."""
        return [(float(x), float(y)) for x, y in self.page.evaluate("points => asked.places(points)", points)]

    def picture(self, path: Path) -> Image.Image:
        """What the page shows, also written to `path`."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=path)
        return Image.open(path).convert("RGB")


@contextlib.contextmanager
def ohif(pacs: str, **source: Any) -> Iterator[Ohif]:
    """OHIF before the PACS at `pacs`, a web address; `source` are settings of OHIF's DICOMweb source."""
    if not PACKAGE.is_dir():
        pytest.fail("OHIF is missing: `make .venv/.viewers` fetches it")
    front = _Front(pacs, source)
    thread = threading.Thread(target=front.serve_forever, daemon=True)
    thread.start()
    try:
        with sync_playwright() as player:
            browser = player.chromium.launch(executable_path=program("chromium"), args=_OPTIONS)
            yield Ohif(f"http://{LOOPBACK}:{front.server_port}", browser, front.requests)
            browser.close()
    finally:
        front.shutdown()
        front.server_close()
        thread.join()
