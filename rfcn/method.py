"""R-FCN for the scripts and the Python API."""

from __future__ import annotations

from lib.engine.run import Method
from rfcn.model import build_rfcn

METHOD = Method("rfcn", build_rfcn, score_threshold=1e-3)
