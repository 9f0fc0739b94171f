"""`python -m processors.storage`: serves the signed links to files in directories until SIGTERM."""

import sys

from observability import instrument
from processors.storage.settings import StorageSettings
from processors.storage.storages import Storages
from streams import StreamsError


def main() -> int:
    """Runs the server; returns the exit code."""
    try:
        import uvicorn

        from processors.storage.download import download_app
    except ImportError:
        sys.stderr.write("error: links need starlette and uvicorn; install planning-bord-streams[downloads]\n")
        return 2
    try:
        settings = StorageSettings.load()
        application = download_app(Storages(settings))
    except StreamsError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    instrument("planning-bord-storage")
    # No access log: the addresses are the right to fetch the files.
    uvicorn.run(
        application, host=settings.links_host, port=settings.links_port, access_log=False, log_config=None,
        server_header=False,
    )  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(main())
