"""Hydra finds launchers in packages called hydra_plugins: importing this shows it ours."""

import sys
from pathlib import Path

_HERE = str(Path(__file__).parent)
if _HERE not in sys.path:
    sys.path.append(_HERE)
