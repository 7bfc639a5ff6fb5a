"""Run a copy of a notebook with live progress: run_notebook.py [NOTEBOOK] [--save]

The executed notebook and an HTML page of it go to the folder build/ beside the
notebook. With --save, the notebook itself and what README.md quotes from it are brought
up to date as well. With --quick, a twentieth of the images shows whether all cells run.
"""

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))  # noqa: PTH100, PTH120
from start import missing, start

if __name__ == "__main__":
    signals = start()
    try:
        from runner import main
    except ModuleNotFoundError as error:
        missing(error)
    main(signals)
