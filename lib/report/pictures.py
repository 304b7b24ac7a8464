"""Pictures that travel inside the page: as data URIs, one for light screens and paper and one for dark screens."""

from __future__ import annotations

import base64
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from lib.files import writing
from lib.report.tables import text


@dataclass(frozen=True)
class Picture:
    """name: of its file, without ending. alt: what it shows, in words. light, dark: its bytes; dark may be empty, where
    one serves both. kind: png or jpeg. size: width and height on the page, in pixels."""

    name: str
    alt: str
    light: bytes
    dark: bytes = b""
    kind: str = "png"
    size: tuple[int, int] = (0, 0)

    def html(self) -> str:
        """A `picture` element; printers get the light one."""
        dark = ""
        if self.dark:
            dark = f'<source media="screen and (prefers-color-scheme: dark)" srcset="{self._uri(self.dark)}">'
        size = f' width="{self.size[0]}" height="{self.size[1]}"' if all(self.size) else ""
        return f'<picture>{dark}<img alt="{text(self.alt)}"{size} src="{self._uri(self.light)}"></picture>'

    def _uri(self, data: bytes) -> str:
        return f"data:image/{self.kind};base64,{base64.b64encode(data).decode('ascii')}"


@dataclass
class Album:
    """All pictures of a page, to be saved beside it."""

    pictures: list[Picture] = field(default_factory=list)

    def add(self, picture: Picture) -> Picture:
        self.pictures.append(picture)
        return picture

    def save(self, folder: str | os.PathLike) -> None:
        """Write `<name>.png`, its dark form `<name>_dark.png`, photographs as `.jpg`; the folder is made.

        Raises OutputError.
        """
        for picture in self.pictures:
            ending = "jpg" if picture.kind == "jpeg" else picture.kind
            for suffix, data in (("", picture.light), ("_dark", picture.dark)):
                if data:
                    with writing(Path(folder, f"{picture.name}{suffix}.{ending}")) as file:
                        file.write(data)


def figure(picture: Picture, caption: str = "", wide: bool = False) -> str:
    """The picture with text below it; a wide one scrolls where the page is narrow. caption: text."""
    below = f"<figcaption>{text(caption)}</figcaption>" if caption else ""
    inside = f'<div class="scroll">{picture.html()}</div>' if wide else picture.html()
    return f"<figure{' class=wide' if wide else ''}>{inside}{below}</figure>"


def pair(parts: Sequence[str]) -> str:
    """Parts of the page abreast, one below the other where it is narrow."""
    return f'<div class="pair">{"".join(f"<div>{part}</div>" for part in parts)}</div>'
