"""What can be seen of a running system: traces, logs, and the parts that show them.

`instrument` sets a process up; what it returns goes into the engine's middleware. The engine itself knows nothing of
OpenTelemetry.
"""

from streams.errors import extra

with extra("tracing", for_="observability.instrument"):
    from observability.instrumentation import flush, instrument

__all__ = ["flush", "instrument"]
