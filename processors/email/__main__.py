"""`python -m processors.email`: runs one consumer of the email processor until SIGTERM."""

import sys

from observability import instrument
from processors.email import email
from processors.email.settings import EmailSettings
from streams import StreamsError, run

if __name__ == "__main__":
    try:
        EmailSettings.load()  # a wrong setting is said here, in one line, rather than with the first mail
    except StreamsError as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(2)  # wrong usage, as `run` says it
    run(email, middleware=instrument("planning-bord-email"))
