"""The base class of events and its machinery: definition, registry, versions, private data, contracts, AsyncAPI.

It knows no Redis and imports nothing else of `streams`, so that a service which only shares its events with others
needs no more than this. Importing it registers no event: `STREAMS_EVENTS`, or an import, names the modules with events.
"""

from streams.events.definition import SchemaError
from streams.events.event import Event, registered, registered_types, upcast
from streams.events.privacy import PII, REDACTED, Secret, redact

__all__ = ["PII", "REDACTED", "Event", "SchemaError", "Secret", "redact", "registered", "registered_types", "upcast"]
