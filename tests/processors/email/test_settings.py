"""Settings: where mail goes, read from one URL, and what is refused before anything is sent."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import SecretStr, ValidationError

from processors.email.mailer import open_mailer
from processors.email.settings import EmailSettings
from streams.errors import StreamsError
from streams.messages.outcome import Unavailable


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SMTP_URL", "SMTP_PASSWORD", "SMTP_URL_FILE", "SMTP_PASSWORD_FILE", "EMAIL_FROM", "APP_URL"):
        monkeypatch.delenv(name, raising=False)


def settings(url: str = "smtp://localhost", **values: object) -> EmailSettings:
    return EmailSettings.model_validate({"smtp_url": url, **values})


def test_the_defaults_are_a_mail_catcher_on_this_machine() -> None:
    server = EmailSettings().server()
    assert server[:3] == ("localhost", 1025, "none")
    assert EmailSettings().email_stock_alerts_to == ()


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("smtp://mail.example", ("mail.example", 25, "none", "", "")),
        ("smtp+starttls://u:p@mail.example", ("mail.example", 587, "starttls", "u", "p")),
        ("smtps://u:p@mail.example", ("mail.example", 465, "tls", "u", "p")),
        ("smtps://u%40x:p%2F%3A%25@mail.example:2465", ("mail.example", 2465, "tls", "u@x", "p/:%")),
        ("smtp://[::1]:1025/", ("::1", 1025, "none", "", "")),
    ],
)
def test_urls(url: str, expected: tuple[str, int, str, str, str]) -> None:
    assert tuple(settings(url).server()) == expected


@pytest.mark.parametrize(
    "url",
    ["http://u:hunter2@mail.example", "smtps://u:hunter2@", "smtps://u:hunter2@mail.example:99999",
     "smtps://u:hunter2@mail.example/path", "smtps://u:hunter2@mail.example?x=1", "smtp://u:hunter2@mail.example",
     "hunter2"],
)  # fmt: skip
def test_a_wrong_url_is_refused_without_showing_its_password(url: str) -> None:
    with pytest.raises(ValidationError) as caught:
        settings(url)
    assert "hunter2" not in str(caught.value)
    assert "hunter2" not in repr(caught.value.errors(include_input=False))


def test_secrets_from_files_and_never_in_a_repr(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "password").write_text("hunter2\n")
    monkeypatch.setenv("SMTP_URL", "smtps://user@mail.example")
    monkeypatch.setenv("SMTP_PASSWORD_FILE", str(tmp_path / "password"))
    found = EmailSettings()
    assert found.server().password == "hunter2"
    assert "hunter2" not in repr(found) + repr(found.server()) + str(found.server())


def test_an_unreadable_secret_file_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SMTP_PASSWORD_FILE", "/nowhere/password")
    with pytest.raises(StreamsError, match="SMTP_PASSWORD_FILE=/nowhere/password"):
        EmailSettings()


def test_lists_come_from_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EMAIL_STOCK_ALERTS_TO", "a@example.com, b@example.com,")
    monkeypatch.setenv("EMAIL_ALLOWED_RECIPIENTS", "example.com")
    found = EmailSettings()
    assert found.email_stock_alerts_to == ("a@example.com", "b@example.com")
    assert found.may_receive("x@EXAMPLE.com")
    assert not found.may_receive("x@sub.example.com")
    assert not found.may_receive("x@evil-example.com")


@pytest.mark.parametrize(
    "values",
    [
        {"email_from": "nobody"},
        {"email_from": "A <a@example.com>\r\nBcc: eve@evil.example"},
        {"email_from": "ädä@example.com"},
        {"app_url": "app.example.com"},
        {"app_url": "http://app.example.com"},
        {"app_url": "javascript:alert(1)"},
        {"app_url": "https://app.example.com/?a=1"},
        {"email_stock_alerts_to": "nobody"},
        {"smtp_password": "x"},
        {"email_ambiguous": "maybe"},
        {"email_rate": 0},
        {"email_digest_to": "nobody"},
        {"email_digest_to": "7=nobody"},
        {"email_digest_to": "seven=a@exa mple.com"},
        {"email_digest_cron": "at seven"},
        {"email_digest_tz": "Mars/Olympus"},
    ],
)
def test_what_cannot_work_is_refused_at_the_start(values: dict[str, str]) -> None:
    with pytest.raises(ValidationError):
        settings(**values)


def test_links_begin_with_the_application() -> None:
    assert settings(app_url="https://app.example.com/bord/").link("/x") == "https://app.example.com/bord/x"
    assert settings(app_url="http://localhost:8000").link("/") == "http://localhost:8000/"


def test_an_explicit_password_wins() -> None:
    found = settings("smtps://u:one@mail.example", smtp_password=SecretStr("two"))
    assert found.server().password == "two"


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("SMTP_URL", "smtps://u:hunter2@mail.example:99999", "SMTP_URL: the port must be a number up to 65535"),
        ("EMAIL_SMTP_CONNECTIONS", "none", "EMAIL_SMTP_CONNECTIONS: Input should be a valid integer"),
        ("EMAIL_SMTP_CA", "/nowhere/ca.pem", "wrong settings"),
    ],
)
async def test_a_wrong_setting_is_said_in_one_line_and_dead_letters_nothing(
    variable: str, value: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SMTP_URL", "smtps://mail.example")
    monkeypatch.setenv(variable, value)
    with pytest.raises(Unavailable, match=message) as caught:
        async with open_mailer():
            pass
    assert "\n" not in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_a_digest_goes_to_everybody_or_to_one_business() -> None:
    found = EmailSettings.model_validate({"email_digest_to": "all@example.com, 7=ada@example.com,07=bob@example.com"})
    assert found.digest_recipients(7) == ("all@example.com", "ada@example.com", "bob@example.com")
    assert found.digest_recipients(77) == ("all@example.com",)
    assert EmailSettings().digest_recipients(7) == ()
