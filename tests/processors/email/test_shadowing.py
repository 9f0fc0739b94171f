"""`processors.email` beside the standard library's `email`: neither hides the other."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
from pathlib import Path

ROOT = Path(__file__).parents[3]

PROBE = """
import email, sys
import processors.email
import processors.email.mail
assert email is sys.modules["email"]
print(email.__file__)
print(processors.email.__file__)
"""


def test_the_standard_library_keeps_its_email() -> None:
    """`python -c` and `python -m` both put the working directory, not `processors/`, first on the path."""
    done = subprocess.run([sys.executable, "-c", PROBE], cwd=ROOT, capture_output=True, text=True, check=True)
    standard, ours = map(Path, done.stdout.split())
    assert standard.parent == Path(sysconfig.get_path("stdlib")) / "email"
    assert ours == ROOT / "processors" / "email" / "__init__.py"


def test_running_a_module_beside_it_keeps_it_too() -> None:
    """A module under `processors` that is run with -m uses the standard library's `email` to read mails."""
    done = subprocess.run(
        [sys.executable, "-m", "examples.fakes.mail_server", "--help"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "--script" in done.stdout
