"""R-FCN for the scripts: its model, and that a frame is trained on alone."""

from __future__ import annotations

from lib.data.sampling import no_references
from lib.engine.run import Method
from rfcn.model import build_rfcn

METHOD = Method(build=build_rfcn, references=lambda cfg: no_references)
