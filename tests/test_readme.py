"""The README: its sections, in the order in which a new user needs them (tests/test_docs.py has links and commands)."""

import re
import shlex
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")


def commands():
    """Every command of the README's bash blocks, split as a shell splits it, comments left out."""
    for block in re.findall(r"```bash\n(.*?)```", TEXT, re.DOTALL):
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            if words:
                yield words


def test_the_two_set_up_commands_come_first():
    assert list(commands())[:2] == [["bash", "tools/quickstart.sh"], ["bash", "tools/run_tests.sh"]]


def test_a_reader_who_scans_finds_each_section_by_its_heading():
    headings = re.findall(r"^## (.+)$", TEXT, re.MULTILINE)
    assert headings == [
        "Install",
        "First result",
        "Python API",
        "Inference on your own video",
        "Training",
        "Training on your own data",
        "Testing and evaluation",
        "Results",
        "Weights",
        "Layout",
        "Cite",
    ]
    assert TEXT.index("![") < TEXT.index("## Install"), "a picture comes first"
