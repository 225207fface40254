"""Hostile cases for every script: commands.py holds the scripts, cases.py what is done to them, known.py what fails.

By hand, over everything: python -m tests.hostile [--script NAME] [--case NAME] [--jobs 2]
"""

import sys
from pathlib import Path

TESTS = Path(__file__).resolve().parent.parent
if str(TESTS) not in sys.path:
    sys.path.insert(0, str(TESTS))  # forked.py
