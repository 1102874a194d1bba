"""An HTTP server in a thread of its own, on a port that it may share with other processes."""

import contextlib
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from typing import Any, Final

import uvicorn

from dicom_node.errors import ListenerError

_START_SECONDS: Final = 10.0
_STOP_SECONDS: Final = 10.0


@contextlib.contextmanager
def served(
    application: Any, *, host: str, port: int, share_port: bool, tls: ssl.SSLContext | None, requests: int, name: str
) -> Iterator[int]:
    """Serves an ASGI application until the block ends; gives the port. At most `requests` are answered at one time.

    Raises ListenerError when the port cannot be had.
    """
    try:
        listening = socket.create_server((host, port), reuse_port=share_port)
    except OSError as error:
        raise ListenerError(
            f"Port {port} on {host} cannot be listened on ({error.strerror}); "
            "stop the program that uses it or set another host and port."
        ) from error
    config = uvicorn.Config(
        application,
        log_config=None,
        log_level="warning",
        access_log=False,  # addresses name patients' studies
        lifespan="off",
        limit_concurrency=requests,
    )
    config.load()
    config.ssl = tls
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, name=name, daemon=True)
    with listening:
        thread.start()
        deadline = time.monotonic() + _START_SECONDS
        while not server.started:
            if not thread.is_alive() or time.monotonic() > deadline:
                raise ListenerError(f"the web server on {host}:{port} did not start.")
            time.sleep(0.01)
        try:
            yield int(listening.getsockname()[1])
        finally:
            server.should_exit = True
            thread.join(_STOP_SECONDS)
