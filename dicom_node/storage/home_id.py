"""The id of a store's home: tells the stores apart whose series and jobs one ledger holds."""

import os
import uuid
from pathlib import Path

from dicom_node.storage.durable import fsync, write_new

_NAME = "home-id"


def home_id(home: Path, unfinished: Path) -> str:
    """Returns the id of `home` (32 hexadecimal digits), made at the first call and never changed.

    Args:
        home: the store's folder.
        unfinished: a path on the same disk that does not exist yet.

    Several processes may call it at once on a new home: all get the same id. It moves with the home's files.

    Raises:
        OSError: when the disk does not take it.
    """
    path = home / _NAME
    if not path.exists():
        write_new(unfinished, uuid.uuid4().hex.encode())
        try:
            os.link(unfinished, path)
        except FileExistsError:  # another process was first
            pass
        finally:
            unfinished.unlink()
        fsync(home)
    return path.read_text().strip()
