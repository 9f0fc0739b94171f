"""The built wheels, and bare environments to install them into."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
_UV: Final = Path(sys.executable).with_name("uv")


def build_wheels(directory: Path) -> list[Path]:
    """Builds both, as a release does; hatchling is installed, so nothing is fetched."""
    for project in (ROOT, ROOT / "deploy" / "application"):
        build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(directory)]
        result = subprocess.run(build, cwd=project, capture_output=True, text=True, check=False)
        assert result.returncode == 0, result.stderr
    return sorted(directory.glob("*.whl"))


class Environment:
    """A venv with nothing in it but what is installed here: the libraries in their locked versions."""

    def __init__(self, directory: Path, wheels: list[Path]) -> None:
        self._directory = directory
        self._wheels = {path.name.split("-")[0].replace("_", "-"): path for path in wheels}
        self._uv("venv", "--quiet", "--python", sys.executable, str(directory / "venv"))
        self._locked = directory / "locked.txt"
        self._uv(
            "export", "--quiet", "--frozen", "--no-hashes", "--all-packages", "--all-extras", "--no-emit-workspace",
            "--no-default-groups", "--output-file", str(self._locked),
        )  # fmt: skip

    def _uv(self, *arguments: str) -> None:
        outside = {name: value for name, value in os.environ.items() if name != "VIRTUAL_ENV"}
        result = subprocess.run(
            [_UV, *arguments], cwd=ROOT, env=outside, capture_output=True, text=True, timeout=300, check=False
        )
        assert result.returncode == 0, result.stderr

    def install(self, name: str, *extras: str, beside: tuple[str, ...] = ()) -> None:
        """Installs a distribution with extras, and with those of `beside`, from their wheels."""
        chosen = [f"{name}[{','.join(extras)}] @ {self._wheels[name].as_uri()}"]
        chosen += [f"{other} @ {self._wheels[other].as_uri()}" for other in beside]
        self._uv("pip", "install", "--quiet", "--python", str(self._python), "--constraint", str(self._locked), *chosen)

    @property
    def _python(self) -> Path:
        return self._directory / "venv" / "bin" / "python"

    def run(
        self, *arguments: str, cwd: Path | None = None, env: dict[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Runs `python` with arguments, or a program of the environment, outside of the checkout."""
        program = self._python.with_name(arguments[0])
        command = [program, *arguments[1:]] if program.exists() else [self._python, *arguments]
        return subprocess.run(
            command, cwd=cwd or self._directory, env={"PATH": "/usr/bin:/bin", **(env or {})},
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip

    def start(self, *arguments: str, cwd: Path, env: dict[str, str], output: Path) -> subprocess.Popen[bytes]:
        """Starts `python` with arguments, which writes to a file."""
        with output.open("wb") as file:
            return subprocess.Popen(
                [self._python, *arguments], cwd=cwd, env={"PATH": "/usr/bin:/bin", **env}, stdout=file, stderr=file
            )
