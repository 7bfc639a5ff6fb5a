"""What the scripts of tools/ need before they import any package."""

import os
import shlex
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def missing(error):
    """Exit with the command that makes an environment and does what was asked."""
    python = Path(".venv", "Scripts" if os.name == "nt" else "bin", "python")
    asked = shlex.join([os.path.relpath(sys.argv[0], ROOT), *sys.argv[1:]])
    install = f"{python} -m pip install -q -r requirements.txt"
    said = f"{error.name} is not installed for this Python. In the repository's folder:"
    sys.exit(f"{said} {sys.executable} -m venv .venv && {install} && {python} {asked}")
