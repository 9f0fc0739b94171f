"""Identity: who types a command, for the history of what is steered by hand."""

from __future__ import annotations

import getpass
import socket


def who() -> str:
    """`user@host`."""
    try:
        return f"{getpass.getuser()}@{socket.gethostname()}"
    except (OSError, KeyError):  # a container's user without a name
        return socket.gethostname()
