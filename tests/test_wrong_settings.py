"""A wrong setting, at every program: one line on standard error that names the variable, and exit code 2."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from streams import Settings
from streams.errors import EXIT_USAGE, ConfigurationError
from streams.settings import CommaSeparated, EnvironmentSettings

ROOT: Final = Path(__file__).parents[1]

ENGINE: Final = {
    "STREAMS_PARTITIONS": "many",
    "QUEUE_DEFAULT_ATTEMPTS": "0",
    "STREAMS_ACCEPT_RISK": "everything",
    "REDIS_PASSWORD_FILE": "/nowhere/password",
}
REDIS: Final = {"REDIS_URL": "http://example.com", "STORAGE_URL": "ftp://example.com/files"}
LOGS: Final = {"LOG_LEVEL": "loud", "LOG_FORMAT": "xml"}
DATABASE: Final = {"DATABASE_URL": "mysql://me:hunter2@example.com/shop"}
CONSUMER: Final = ENGINE | REDIS | LOGS

PROGRAMS: Final = {
    "streams status": ENGINE | REDIS,
    "streams publish UserRegistered": {"STREAMS_PARTITIONS": "many"},
    "streams schema": {"STREAMS_ACCEPT_RISK": "everything"},
    "benchmarks": {"STREAMS_PARTITIONS": "many"},
    "streams.sql.relay": CONSUMER | DATABASE,
    "processors email": ENGINE | LOGS,
    "processors.email": CONSUMER | {"SMTP_URL": "http://me:hunter2@example.com", "EMAIL_RETRY_MOST": "-1"},
    "processors.inventory": CONSUMER | DATABASE | {"INVENTORY_PAGE_ITEMS": "0", "INVENTORY_SUPPLIERS": "acme"},
    "processors.report": CONSUMER | DATABASE | {"REPORT_DAYS": "none", "REPORT_DAILY_TO": "nobody"},
    "processors.file": CONSUMER | DATABASE | {"FILE_CHUNK_ROWS": "0", "MAX_FILE_SIZE": "big"},
    "DATABASE ls": ENGINE | DATABASE,
    "STORAGE": LOGS | {"LINKS_PORT": "0", "LINK_SECRET": "short", "STREAMS_LEASE": "soon"},
}
"""Each program, and what of its settings is wrong, one at a time; programs in capitals are looked for."""


def _module(program: str) -> list[str]:
    name, *arguments = program.split()
    if name.isupper():
        (found,) = (ROOT / "processors").rglob(f"{name.lower()}/__main__.py")
        name = ".".join(found.relative_to(ROOT).parent.parts)
    return [name, *arguments]


_RUN: Final = """
import json, os, runpy, sys, traceback
module, arguments, cases = json.loads(sys.stdin.read())
runpy.run_module(module, run_name="warm")  # imports what the program imports
ended = {}
for number, (variable, value) in enumerate(cases.items()):
    if (child := os.fork()) == 0:
        os.environ[variable] = value
        sys.argv = [module, *arguments]
        for descriptor, name in ((1, "out"), (2, "err")):
            os.dup2(os.open(f"{number}.{name}", os.O_CREAT | os.O_WRONLY, 0o600), descriptor)
        code = 0
        try:
            runpy.run_module(module, run_name="__main__")
        except SystemExit as exit:
            code = exit.code or 0
        except BaseException:
            traceback.print_exc()
            code = 1
        sys.stdout.flush()
        os._exit(code if isinstance(code, int) else 1)
    ended[variable] = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
print(json.dumps(ended))
"""


@pytest.mark.timeout(90)  # importing a processor takes 2 s, and ten times as long on a machine that is full
@pytest.mark.parametrize("program", PROGRAMS)
def test_a_wrong_setting_is_one_line(program: str, tmp_path: Path) -> None:
    """It names the variable and shows no password; there is no traceback, and nothing is started."""
    module, *arguments = _module(program)
    cases = PROGRAMS[program]
    inherited = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    right = {"STREAMS_HOME": str(tmp_path), "DATABASE_URL": f"sqlite:///{tmp_path}/shop.db", "PYTHONPATH": str(ROOT)}
    # One process that forks for each case: importing a processor takes a hundred times as long as its refusal.
    ran = subprocess.run(
        [sys.executable, "-c", _RUN], env=inherited | right, cwd=tmp_path, input=json.dumps([module, arguments, cases]),
        capture_output=True, text=True, timeout=80, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    codes = json.loads(ran.stdout)
    wrong = {}
    for number, variable in enumerate(cases):
        out, err = (tmp_path / f"{number}.out").read_text(), (tmp_path / f"{number}.err").read_text()
        is_one_line = err.count("\n") == 1 and err.startswith("error: ") and not out
        if codes[variable] != EXIT_USAGE or not is_one_line or variable not in err or "hunter2" in err:
            wrong[variable] = (codes[variable], out[-300:], err[-800:])
    assert wrong == {}
    assert not list(tmp_path.rglob("redis.log")), "a Redis was started"


class _Odd(EnvironmentSettings):
    """Of a service of its own."""

    secret_variables = ("ODD_TOKEN",)

    odd_number: int = 1
    odd_names: CommaSeparated[tuple[str, ...]] = ()
    odd_ratios: CommaSeparated[tuple[float, ...]] = ()
    odd_token: str = ""


def test_every_problem_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of several wrong settings all, in one line; of those with two names the one that is set."""
    monkeypatch.setenv("STREAMS_LEASE", "soon")
    monkeypatch.setenv("QUEUE_DEFAULT_ATTEMPTS", "none")
    monkeypatch.setenv("STREAMS_BACKOFF", "-1")
    with pytest.raises(ConfigurationError) as raised:
        Settings.load()
    text = str(raised.value)
    assert "\n" not in text
    assert [part.partition(":")[0] for part in text.split("; ")] == [
        "STREAMS_LEASE", "QUEUE_DEFAULT_ATTEMPTS", "STREAMS_BACKOFF",
    ]  # fmt: skip


def test_a_service_has_settings_of_its_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Lists, secrets in files, and errors without the value."""
    (tmp_path / "token").write_text("s3cret\n")
    monkeypatch.setenv("ODD_NAMES", " a, b,,c ")
    monkeypatch.setenv("ODD_TOKEN_FILE", str(tmp_path / "token"))
    found = _Odd.load()
    assert (found.odd_names, found.odd_token, found.odd_ratios) == (("a", "b", "c"), "s3cret", ())
    monkeypatch.setenv("ODD_RATIOS", "0.5,hunter2")
    with pytest.raises(ConfigurationError, match=r"^ODD_RATIOS: Input should be a valid number") as raised:
        _Odd.load()
    assert "hunter2" not in str(raised.value)
    monkeypatch.setenv("ODD_TOKEN_FILE", str(tmp_path / "none"))
    with pytest.raises(ConfigurationError, match=r"^ODD_TOKEN_FILE=.* cannot be read"):
        _Odd.load()
