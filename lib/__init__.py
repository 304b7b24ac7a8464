"""R-FCN, Deep Feature Flow and Flow-Guided Feature Aggregation for video object detection.

    from lib import load_detector
    detector = load_detector("output/fgfa.pth")
    for frame, found in detector("my_video.mp4"):
        print(frame.index, [(detector.class_names[d.label], d.score, d.box) for d in found])

docs/python.md has the whole Python API.
"""

from __future__ import annotations

from lib.version import __version__

__all__ = ["VideoDetector", "__version__", "load_detector"]


def __getattr__(name: str) -> object:
    # Imported on first use: it needs torch, and the tools that check an installation must start without torch
    if name in ("VideoDetector", "load_detector"):
        from lib import video_detector

        return getattr(video_detector, name)
    raise AttributeError(f"module 'lib' has no attribute '{name}'")
