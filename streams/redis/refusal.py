"""Refusal: why Redis cannot be used, in one line with what to set, the same for publishers, consumers and commands.

redis-py gives one class for many causes, so the causes behind an error are looked through, down to what the operating
system or OpenSSL said. No password is in any of these texts: a server that does not know a command repeats its
arguments, which are cut off.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Awaitable, Iterator
from contextlib import contextmanager
from typing import Any, Final, Protocol

from redis.exceptions import (
    AskError,
    AuthenticationError,
    BusyLoadingError,
    ClusterCrossSlotError,
    InvalidResponse,
    MovedError,
    NoPermissionError,
    RedisError,
    ResponseError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from streams.errors import LoginRefused, Refused, StreamsError, Unreachable
from streams.redaction import scrub

START: Final = "start it or set REDIS_URL"
_TOO_OLD: Final = "is too old: install Redis 7.0 or later"
_FOR_NOW: Final = ("BUSY", "NOREPLICAS", "MISCONF")
_IN_SCRIPT: Final = "ACL failure in script"  # what a script may not do, which redis-py has no class for
_LONGEST: Final = 200

_ADVICE: Final = {
    "BUSY": "wait for the script, or redis-cli SCRIPT KILL",
    "NOREPLICAS": "start its replicas, or set min-replicas-to-write lower",
    "MISCONF": "make room on its disk; its log says more",
}
_CERTIFICATE: Final = {
    10: "renew the server's certificate",
    62: "use a name that is in the certificate",
    64: "use an address that is in the certificate",
}
_OF_THE_CA: Final = "set STREAMS_REDIS_CA to the file of the CA that signed it"


def refusal(error: BaseException, where: str) -> StreamsError:
    """Turns what redis-py or the operating system raised into the engine's error: `Refused` when waiting cannot help
    (`LoginRefused` when it may for a while), else `Unreachable`.
    """
    causes = list(_causes(error))
    for cause in causes:
        if isinstance(cause, StreamsError):
            return cause
    for cause in causes:
        if (found := _refused(cause, where)) is not None:
            return found
    problem, advice = _reason(causes, where)
    return Unreachable(f"Redis at {where} cannot be reached ({problem}); {advice}")


def reason(error: BaseException, where: str = "") -> str:
    """The cause alone, for a text that names the server itself."""
    problem = refusal(error, where)
    return str(problem) if isinstance(problem, Refused) else _reason(list(_causes(error)), where)[0]


def takes_no_writes(error: ResponseError) -> bool:
    """Whether an error reply passes by itself: a script that runs, replicas that are away, a full disk."""
    return _code(error) in _FOR_NOW


def is_timeout(error: BaseException) -> bool:
    """Whether there was no answer in the time that was given, of which nothing is known."""
    return isinstance(error, RedisTimeoutError | TimeoutError)


def _causes(error: BaseException) -> Iterator[BaseException]:
    found: BaseException | None = error
    seen: set[int] = set()
    while found is not None and id(found) not in seen and len(seen) < 12:
        seen.add(id(found))
        yield found
        # redis-py raises its own error while it handles the system's, and says so by its text. Any other context may be
        # an error of the caller's, who publishes in an `except`.
        wraps = isinstance(found, RedisConnectionError) and str(found).startswith("Error ")
        found = found.__cause__ or (found.__context__ if wraps else None)


def _code(error: BaseException) -> str:
    return str(getattr(error, "status_code", None) or str(error).partition(" ")[0]).removeprefix("-")


def _text(error: BaseException) -> str:
    text = " ".join(str(error).split()).partition(", with args beginning with")[0]
    return scrub(text)[:_LONGEST].rstrip(". ")


def _refused(cause: BaseException, where: str) -> StreamsError | None:
    """What waiting alone does not cure."""
    text = _text(cause)
    if isinstance(cause, AuthenticationError):
        if "without any password" in text or "no password is set" in text:
            return LoginRefused(f"Redis at {where} has no password, and is given one; set it there, or unset it here")
        problem = "asks for a password and is given none" if _code(cause) == "NOAUTH" else "refuses the login"
        return LoginRefused(
            f"Redis at {where} {problem}; set REDIS_PASSWORD or REDIS_PASSWORD_FILE (or user:password in REDIS_URL)"
        )
    if isinstance(cause, NoPermissionError) or (isinstance(cause, ResponseError) and is_denied(text)):
        return LoginRefused(f"Redis at {where}: the user may not do this ({text}); extend its ACL")
    if isinstance(cause, MovedError | AskError | ClusterCrossSlotError):
        if where.startswith("redis+cluster"):
            return None  # a slot is moving: the next look finds the node that has it
        return Refused(f"Redis at {where} is a node of a cluster; use redis+cluster:// in REDIS_URL")
    if not isinstance(cause, ResponseError):
        return None
    if "DB index" in text or "SELECT is not allowed in cluster mode" in text:
        return Refused(f"Redis at {where} has no such database ({text}); correct REDIS_DB, or the number in REDIS_URL")
    if "unexpected symbol near '#'" in text:
        return Refused(f"Redis at {where} {_TOO_OLD}")
    if "unknown command" in text.lower():
        return Refused(f"Redis at {where} does not know a command that the engine needs ({text}); install Redis 7.0 "
                       "or later, and do not rename its commands")  # fmt: skip
    return None


def _reason(causes: list[BaseException], where: str) -> tuple[str, str]:
    tls = where.startswith("rediss")
    for cause in causes:
        found = _of_reply(cause) or _of_tls(cause) or _of_system(cause)
        if found is not None:
            return found
    for cause in causes:
        text = _text(cause)
        if isinstance(cause, RedisTimeoutError | TimeoutError):
            what = "no answer in time" if "connect" not in text else "no connection in time"
            return what, "does this port speak TLS? else use redis://" if tls else "look whether it runs, and is free"
        is_reset = isinstance(cause, ConnectionResetError | BrokenPipeError)
        if is_reset or (isinstance(cause, RedisConnectionError) and "closed" in text.lower()):
            advice = "look at its log, and at what stands between"
            return ("connection reset" if is_reset else "it closes the connection"), (
                advice if tls else f"if this port speaks TLS, use rediss://; else {advice}"
            )
    first = causes[0]
    text = _text(first)
    return (f"{first.__class__.__name__}: {text}" if text else first.__class__.__name__), START


def _of_reply(cause: BaseException) -> tuple[str, str] | None:
    """What Redis itself answered."""
    if not isinstance(cause, RedisError):
        return None
    text, code = _text(cause), _code(cause)
    if isinstance(cause, BusyLoadingError):
        return "it is loading its data", "it answers when that is done"
    if "max number of clients" in text:
        return text, "raise its maxclients, or close connections"
    if isinstance(cause, InvalidResponse):
        return f"what answers is not Redis: {text}", "look at what listens on this port, and at what stands between"
    if text.startswith("not the master"):
        return text, "name the master in REDIS_URL, or wait until the failover is over"
    if code in _ADVICE:
        return f"{code} {text.removeprefix(code).strip()}", _ADVICE[code]
    if isinstance(cause, ResponseError):
        return f"it answers: {text}", "see its log"
    return None


def _of_tls(cause: BaseException) -> tuple[str, str] | None:
    if isinstance(cause, ssl.SSLCertVerificationError):
        verified = f"certificate verify failed: {cause.verify_message.rstrip('.')}"
        return verified, _CERTIFICATE.get(cause.verify_code, _OF_THE_CA)
    if isinstance(cause, ssl.SSLError):
        problem = f"TLS failed: {(cause.reason or 'handshake').replace('_', ' ').lower()}"
        if "ALERT" in (cause.reason or "") and "CERT" in (cause.reason or ""):
            return problem, "set STREAMS_REDIS_CERT and STREAMS_REDIS_KEY: it asks for a certificate that it knows"
        return problem, "does this port speak TLS? else use redis://"
    return None


def _of_system(cause: BaseException) -> tuple[str, str] | None:
    match cause:
        case socket.gaierror():
            return "its name does not resolve", "correct the host in REDIS_URL or REDIS_HOST"
        case ConnectionRefusedError():
            return "connection refused", START
        case FileNotFoundError():
            return "there is no such socket", START
        case PermissionError():
            return "permission denied", "let this user open the socket"
        case TimeoutError() | ConnectionResetError() | BrokenPipeError():
            return None
        case OSError(errno=int(), strerror=str(problem)):
            if "Multiple exceptions" in problem:
                return problem[:_LONGEST], START
            return problem.lower(), START
    return None


# Missing: what Redis answers about a key or a group that does not exist, or a key that holds something else.

_PASSING = ("MISCONF", "OOM", "READONLY", "NOREPLICAS", "BUSY", "LOADING", "MASTERDOWN", "NOPERM")
_NOT_THERE = ("no such key", "NOGROUP", "WRONGTYPE")  # the last: `doctor` looks at the types by themselves


def unless_missing(reply: Any) -> Any:
    """A pipeline's reply, or None where key or group do not exist, or are of another type; other errors are raised."""
    if isinstance(reply, ResponseError) and any(word in str(reply) for word in _NOT_THERE):
        return None
    if isinstance(reply, Exception):
        raise reply
    return reply


async def unless_odd(reply: Awaitable[Any]) -> Any:
    """A reply, or None where the key holds something else than it should: what is there is nothing the engine wrote."""
    try:
        return await reply
    except ResponseError as error:
        return unless_missing(error)


def is_denied(answer: str) -> bool:
    """Whether an error reply is that a script may not do something as this user."""
    return _IN_SCRIPT in answer


def is_of_script(error: RedisError) -> bool:
    """Whether a script failed over what is in a key; a server that refuses all of them (full, read only) recovers."""
    words = str(error)
    return "user_script" in words and not is_denied(words) and not words.startswith(_PASSING)


LOST: Final = (RedisConnectionError, RedisTimeoutError, OSError, TimeoutError)
"""What a call raises when the connection is gone. `AuthenticationError` is a `ConnectionError` too: see `refusal`."""


class Placed(Protocol):
    """Connections, as far as an error names them."""

    @property
    def place(self) -> str:
        """Where the server is, without a password."""


@contextmanager
def refusing(connections: Placed) -> Iterator[None]:
    """Turns what redis-py raises for a lost connection, a refused login, or a server that does nothing for now or never
    will, into `Unreachable` or `Refused`.
    """
    try:
        yield
    except LOST as error:
        raise refusal(error, connections.place) from error
    except ResponseError as error:
        problem = refusal(error, connections.place)
        if isinstance(problem, Refused) or takes_no_writes(error):
            raise problem from error
        raise
