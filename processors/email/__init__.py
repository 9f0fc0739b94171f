"""The email processor: four domain events in, one mail each out, handed to an SMTP server.

`processors.email` is a package inside `processors`; the standard library's `email` stays what `import email` gives.
"""

from streams.errors import APPLICATION, extra

with extra("email", of=APPLICATION, for_="processors.email"):
    from processors.email.handlers import email

__all__ = ["email"]
