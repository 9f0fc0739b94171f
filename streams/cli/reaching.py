"""Reaching: what doctor says of the way to Redis."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_address
from typing import TYPE_CHECKING

from streams.inspecting.doctor import Finding

if TYPE_CHECKING:
    from streams.redis.connection import Connections


def check_connection(connections: Connections) -> Iterator[Finding]:
    """How this process reaches Redis: what others on the way could read, or take its place."""
    address, tls = connections.address, connections.tls
    host = next((host for host, _ in address.hosts if _is_far(host)), "")
    has_login = bool(connections.login.get_credentials())
    findings = []
    if tls is not None and not tls.verifies:
        findings.append(
            Finding(
                "connection", "warn", "ssl_cert_reqs=none: whatever answers is taken for Redis",
                "set STREAMS_REDIS_CA to the CA's file, and leave ssl_cert_reqs out of REDIS_URL",
            )
        )  # fmt: skip
    if tls is None and host and has_login:
        findings.append(
            Finding("connection", "warn", f"the password goes to {host} in clear text", "use rediss:// in REDIS_URL")
        )
    if host and not has_login:
        findings.append(
            Finding(
                "connection", "warn", f"{host} asks for no password: whatever reaches it may do everything",
                "set requirepass there, or users: see docs/operate/operations.md",
            )
        )  # fmt: skip
    if address.ignored:
        findings.append(
            Finding(
                "connection", "warn", f"REDIS_URL: {', '.join(address.ignored)}: left out, the engine sets this itself",
                "remove it from REDIS_URL",
            )
        )  # fmt: skip
    yield Finding("reachable", "ok", f"Redis at {connections.place} answers")
    yield from findings


def _is_far(host: str) -> bool:
    """Whether a host is another machine; a name without a dot is a service of the same private network."""
    try:
        return not ip_address(host).is_loopback
    except ValueError:
        return "." in host and not host.endswith(".localhost")
