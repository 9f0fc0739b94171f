"""`python -m processors.shared.storage`: serves the signed links to files in directories until SIGTERM.

It listens on LINKS_HOST and LINKS_PORT (127.0.0.1:8002); links begin with LINKS_URL. Its other settings are those of
docs/operate/settings.md. Files in S3 are served by S3, and need no server.
"""

import argparse
import contextlib
import sys

from observability import instrument
from processors.shared.storage.settings import StorageSettings
from processors.shared.storage.storages import Storages
from streams import Settings
from streams.errors import APPLICATION, exit_on_error, extra
from streams.process_state import ProcessState


def main() -> int:
    """Runs the server; returns the exit code: 2 for wrong usage or a setting that cannot work."""
    argparse.ArgumentParser(
        prog="python -m processors.shared.storage",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    ).parse_args()
    with exit_on_error():
        with extra("downloads", of=APPLICATION, for_="processors.shared.storage"):
            import uvicorn

            from processors.shared.storage.bounded import HEAD_BYTES, BoundedProtocol
            from processors.shared.storage.download import download_app
            from processors.shared.storage.server import LinksServer
        settings, state = StorageSettings.load(), ProcessState(Settings.load().state_file)
        application = download_app(Storages(settings))
        instrument("planning-bord-storage")
    BoundedProtocol.most = settings.links_connections
    config = uvicorn.Config(
        # No access log: the addresses are the right to fetch the files.
        application, host=settings.links_host, port=settings.links_port, access_log=False, log_config=None,
        server_header=False, http=BoundedProtocol, h11_max_incomplete_event_size=HEAD_BYTES,
    )  # fmt: skip
    with exit_on_error(), contextlib.suppress(KeyboardInterrupt):
        LinksServer(config, state).run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
