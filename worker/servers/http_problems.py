"""Error answers over HTTP: problem details (RFC 9457) with one sentence for people in `detail`.

{"type": "about:blank", "title": "Unauthorized", "status": 401, "detail": "the token is missing or wrong; ..."}
"""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Final

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

MEDIA_TYPE: Final = "application/problem+json"

# What Starlette itself refuses, where it gives the status phrase and no sentence.
_SENTENCES: Final = {
    404: "there is nothing at this address; see the documentation for the addresses of this port",
    405: "this address does not take the request's method; the Allow header names those that it takes",
}


def problem(status: int, detail: str, headers: Mapping[str, str] | None = None) -> JSONResponse:
    """Makes an error answer. Its type is `about:blank`, since the status says all that a program has to know."""
    content = {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status, "detail": detail}
    return JSONResponse(content, status, headers, media_type=MEDIA_TYPE)


def answer_with_problems(api: FastAPI) -> None:
    """Makes an application answer every error with problem details, unexpected ones included (500)."""
    api.add_exception_handler(HTTPException, _refused)
    api.add_exception_handler(RequestValidationError, _not_valid)
    api.add_exception_handler(Exception, _failed)


def _refused(_request: Request, error: Exception) -> JSONResponse:
    """Answers an HTTPException, with a sentence of ours where Starlette gives only the phrase of the status."""
    assert isinstance(error, HTTPException)
    without_sentence = error.detail == HTTPStatus(error.status_code).phrase
    detail = _SENTENCES.get(error.status_code, error.detail) if without_sentence else error.detail
    return problem(error.status_code, detail, error.headers)


def _not_valid(_request: Request, error: Exception) -> JSONResponse:
    """Answers parameters that FastAPI does not accept (422); names each of them."""
    assert isinstance(error, RequestValidationError)
    found = [f"{'.'.join(str(part) for part in one['loc'])}: {one['msg']}" for one in error.errors()]
    return problem(422, "; ".join(found))


def _failed(_request: Request, _error: Exception) -> JSONResponse:
    """Answers an unexpected error, which the guard logs; tells the client nothing of it."""
    return problem(500, "the request failed in this node; its log says why (http_request_failed)")
