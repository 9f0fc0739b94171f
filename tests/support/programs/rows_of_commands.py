"""Runs one command line after the other in this process: a line of stdin is a JSON array of arguments, a line of stdout
what became of it. It is started once where each command would be a process.
"""

from __future__ import annotations

import contextlib
import io
import json
import sys

from streams.cli.application import application
from streams.cli.exit import ending


def main() -> None:
    """Until the end of stdin."""
    for line in sys.stdin:
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = ending(application(), json.loads(line))
        print(json.dumps([code, out.getvalue(), err.getvalue()]), flush=True)


if __name__ == "__main__":
    main()
