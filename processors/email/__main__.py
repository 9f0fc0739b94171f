"""`python -m processors.email`: runs one consumer of the email processor until SIGTERM."""

from observability import instrument
from processors.email import email
from processors.email.apply_settings import apply_settings
from processors.email.settings import EmailSettings
from streams import run
from streams.errors import exit_on_error

if __name__ == "__main__":
    with exit_on_error():
        settings = EmailSettings.load()  # a wrong setting is said here, in one line, rather than with the first mail
        if settings.email_digest_to:
            # Imported here: it costs a good part of the start, and without a digest nothing of it is needed.
            from processors.shared.database.startup import prepare_or_exit

            prepare_or_exit()  # the digest reads the business database
        processor, middleware = apply_settings(email, settings), instrument("planning-bord-email")
    run(processor, middleware=middleware)
