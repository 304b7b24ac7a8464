"""Join clips of the same frames into one clip that shows them side by side, and a contact sheet of it.

Each clip is given as TITLE=FILE, such as the demo.mp4 that a demo script wrote. The contact sheet is written beside the
joined clip, as a PNG of the same name.

Example: python tools/side_by_side.py "R-FCN=a/demo.mp4" "DFF=b/demo.mp4" "FGFA=c/demo.mp4" --out methods.mp4
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from lib.command_line import count, rate, run_script
from lib.data.video import FrameSource, SourceError, open_frames
from lib.engine.demo import DEFAULT_FPS
from lib.files import check_output
from lib.visualize.clip import ContactSheet, side_by_side
from lib.visualize.video_writer import VideoWriter


def parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clips", nargs="+", metavar="TITLE=FILE", help="a video file or a folder of frames")
    parser.add_argument("--out", required=True, type=Path, metavar="FILE", help="ends in .mp4 or .webm")
    parser.add_argument("--fps", type=rate, default=0.0, help="frames a second; default: the first clip's")
    parser.add_argument("--sheet", type=count, default=4, metavar="N", help="frames on the contact sheet; default: 4")
    args = parser.parse_args(argv)
    if args.sheet < 1:
        parser.error("--sheet must be at least 1")
    return args


def join(clips: Sequence[str], out: Path, fps: float = 0.0, on_sheet: int = 4) -> tuple[Path, Path]:
    """Write the clip and its contact sheet; returns their paths. Raises SourceError for clips of different lengths."""
    sheet_path = check_output(out.with_suffix(".png"))
    titles, sources = [], []
    for clip in clips:
        title, found, file = clip.partition("=")
        if not (title and found and file):
            raise SourceError(f"'{clip}' is not TITLE=FILE")
        titles.append(title)
        sources.append(open_frames(file))
    sheet = ContactSheet(on_sheet, width=min(1920, 480 * len(clips)))
    with VideoWriter(out, fps or sources[0].fps or DEFAULT_FPS) as video:
        for number, frames in enumerate(tqdm(_together(sources, clips), unit="frame", total=sources[0].length), 1):
            video.write(side_by_side(frames, titles))
            sheet.add(side_by_side(frames, [f"{title}, frame {number}" for title in titles]), "")
    sheet.write(sheet_path)
    return out, sheet_path


def _together(sources: Sequence[FrameSource], names: Sequence[str]):
    """The first frame of all sources, then the second, and so on."""
    readers = [iter(source) for source in sources]
    while True:
        frames = [next(reader, None) for reader in readers]
        ended = [name for name, frame in zip(names, frames, strict=True) if frame is None]
        if len(ended) == len(frames):
            return
        if ended:
            raise SourceError(f"{', '.join(ended)}: ends before the others; give clips of the same frames")
        yield [frame.pixels for frame in frames]


def main(argv: Sequence[str] | None = None) -> None:
    """Join the clips that `argv` names, the command line where None. Raises InputError."""
    args = parse_arguments(argv)
    written = join(args.clips, args.out, args.fps, args.sheet)
    print("written: " + ", ".join(str(path) for path in written))


if __name__ == "__main__":
    run_script(main)
