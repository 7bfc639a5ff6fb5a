"""The repository's folder and its notebook."""

from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOK = ROOT / "DLCV_Assignment1.ipynb"
