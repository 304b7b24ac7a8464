"""YAML that is broken, hostile or not meant for us ends in one line that names the file; none costs time or memory."""

from __future__ import annotations

import os

import pytest

from lib.config import ConfigError, load_config

BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{chr(98 + i)}: &{chr(98 + i)} [{', '.join([f'*{chr(97 + i)}'] * 9)}]\n" for i in range(12)
)

BROKEN = {
    "unclosed": ("a: [", "1: not valid YAML"),
    "a tab": ("TRAIN:\n\tlr: 1", "2: not valid YAML"),
    "bad indentation": ("TRAIN:\n  lr: 1\n wd: 2", "3: not valid YAML"),
    "a section twice": ("TRAIN: {lr: 1}\nTEST: {NMS: 0.5}\nTRAIN: {wd: 1}", "3: .*'TRAIN' was already given in line 1"),
    "a key twice": ("TRAIN:\n  lr: 1\n  lr: 2", "3: .*'lr' was already given in line 2"),
    "a key twice in one line": ("TRAIN: {lr: 1, lr: 2}", "1: .*'lr' was already given in line 1"),
    "a key twice, quoted": ("TRAIN:\n  lr: 1\n  'lr': 2", "3: .*'lr' was already given"),
    "a merged mapping": ("TRAIN:\n  <<: {lr: 1}", "2: .*merging with << is not accepted"),
    "a merged list": ("TRAIN:\n  <<: [{lr: 1}, {lr: 2}]", "2: .*merging with <<"),
    "a list as key": ("? [1, 2]\n: 3", "1: .*a key must be a word"),
    "a mapping as key": ("? {a: 1}\n: 3", "1: .*a key must be a word"),
    "an unknown alias": ("a: *nothing", "1: .*aliases"),
    "an alias of itself": ("a: &a [*a]", "1: .*aliases"),
    "an alias bomb": (BOMB, "2: .*aliases"),
    "an integer tag": ("a: !!int abc", "1: .*tags .*int. are not accepted"),
    "an empty integer tag": ("a: !!int ''", "1: .*tags"),
    "a boolean tag": ("a: !!bool maybe", "1: .*tags"),
    "a date tag": ("a: !!timestamp 2015-02-30", "1: .*tags"),
    "a binary tag": ("a: !!binary '###'", "1: .*tags"),
    "a set tag": ("!!set {a, b}", "1: .*tags"),
    "an ordered mapping": ("a: !!omap [b: 1]", "1: .*tags"),
    "a Python tag": ("a: !!python/object/apply:os.system ['true']", "1: .*tags .*os.system"),
    "a tag of its own": ("a: !mine 3", "1: .*tags .!mine. are not accepted"),
    "a lone equals sign": ("TRAIN: {lr: =}", "1: not valid YAML"),
    "5,000 digits": ("TRAIN: {end_epoch: " + "9" * 5000 + "}", " not valid YAML .Exceeds the limit"),
    "5,000 hexadecimal digits": ("TRAIN: {end_epoch: 0x" + "f" * 5000 + "}", " 'TRAIN.end_epoch' must be at least 1"),
    "hexadecimal digits in a section": ("TRAIN: [0x" + "f" * 5000 + "]", " 'TRAIN' is a section .*too long to show"),
    "an impossible date": ("TRAIN: {lr: 2015-02-30}", " 'TRAIN.lr' must be a number like 0.00025, not '2015-02-30'"),
    "a date": ("TRAIN: {lr: 2015-02-20}", " 'TRAIN.lr' must be a number like 0.00025, not '2015-02-20'"),
    "deep lists": ("a: " + "[" * 3000, "1: .*nested deeper than 20 levels"),
    "deep mappings": ("{a: " * 3000, "1: .*nested deeper than 20 levels"),
    "deep blocks": ("\n".join(" " * i + "a:" for i in range(300)), "21: .*nested deeper than 20 levels"),
    "many values": ("a: [" + "1," * 9000 + "]", "1: .*more than 5000 values"),
    "many lines": ("".join(f"k{i}: 1\n" for i in range(9000)), "2[0-9]{3}: .*more than 5000 values"),
    "a long text": ("output_path: " + "x" * 300_000, " more than 262144 characters; this is no configuration"),
    "a long path": ("output_path: " + "x" * 5000, " 'output_path' must have at most 4096 characters, not 5000"),
    "a NUL": ("output_path: a\0b", " not a text file in UTF-8; give a YAML file"),
    "an escaped NUL": ('output_path: "a\\0b"', " 'output_path' must not hold control characters"),
    "an escaped line break": ('output_path: "a\\nb"', " 'output_path' must not hold control characters"),
    "half a character": ('output_path: "\\ud800"', " 'output_path' must not hold control characters or bytes"),
    "a control character": ("output_path: a\x07b", " not valid YAML .unacceptable character"),
    "two documents": ("a: 1\n---\nb: 2", "2: not valid YAML"),
    "a list": ("- a\n- b", " must hold 'key: value' lines, not a list"),
    "a word": ("TRAIN", " must hold 'key: value' lines, not a str"),
    "a number": ("3", " must hold 'key: value' lines, not a int"),
    "no key": ("~: 3", " unknown key 'None'"),
    "a truth value as key": ("on: 3", " unknown key 'True'"),
    "a long key": ("k" * 900 + ": 3", " (unknown key 'kkkk|not valid YAML)"),
    "a key with a dot": ("TRAIN.lr: 3", " unknown key 'TRAIN.lr'"),
    "an empty section": ("TRAIN:", " 'TRAIN' is a section and needs keys under it, not None"),
    "JSON with a comment": ('{"TRAIN": {"lr": 1} // rate\n}', "1: not valid YAML"),
    "a program": ("#!/bin/sh\nif [ 1 ]; then\n  echo {\nfi", " ?[0-9]*:? ?(not valid YAML|must hold)"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_text_is_named_with_its_line(tmp_path, name):
    text, message = BROKEN[name]
    path = tmp_path / "mine.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=f"mine\\.yaml:{message}") as error:
        load_config(path)
    assert len(str(error.value)) < 700
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\xff\xfeT\0R\0", "not a text file in UTF-8; give a YAML file"),
        ("TRAIN: {lr: 1}".encode("utf-16"), "not a text file in UTF-8"),
        ("TRAIN: {lr: 1}".encode("utf-16-le"), "not a text file in UTF-8"),
        ("output_path: gr\xfc\xdfe".encode("latin-1"), "not a text file in UTF-8"),
        (b"\x89PNG\r\n\x1a\n\0\0", "not a text file in UTF-8"),
        (b"PK\x03\x04" + bytes(range(256)), "not a text file in UTF-8"),
    ],
)
def test_what_is_no_text_is_refused(tmp_path, content, message):
    path = tmp_path / "mine.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=f"mine\\.yaml: {message}"):
        load_config(path)


def test_what_is_no_file_is_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe.yaml")
    with pytest.raises(ConfigError, match=r"pipe\.yaml: is a device, pipe or socket, not a file; give a YAML file"):
        load_config(tmp_path / "pipe.yaml")
    with pytest.raises(ConfigError, match="is a folder, not a file; give a YAML file"):
        load_config(tmp_path)
    with pytest.raises(ConfigError, match="/dev/zero: is a device"):
        load_config("/dev/zero")
    with pytest.raises(ConfigError, match="File name too long"):
        load_config(tmp_path / ("x" * 300))
    with pytest.raises(ConfigError, match=r"cannot be read \(.*embedded null.*\); give a YAML file"):
        load_config("a\0b")


def test_a_file_of_many_gigabytes_is_not_read(tmp_path):
    path = tmp_path / "huge.yaml"
    with open(path, "wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(ConfigError, match=r"huge\.yaml: has more than 1048576 bytes; give a YAML file"):
        load_config(path)


@pytest.mark.parametrize(
    "text",
    [
        "\ufeffTRAIN: {lr: 0.5}",
        "TRAIN: {lr: 0.5}\r\nTEST: {NMS: 0.3}\r\n",
        "TRAIN: {lr: 0.5}\rTEST: {NMS: 0.3}\r",
        "---\n# a comment\nTRAIN:\n    lr: 0.5\n...\n",
        '{"TRAIN": {"lr": 0.5}}',
        "TRAIN: {lr: +.5}",
    ],
)
def test_ways_to_write_the_same(tmp_path, text):
    path = tmp_path / "mine.yaml"
    path.write_bytes(text.encode())
    assert load_config(path).TRAIN.lr == 0.5


def test_an_empty_file_gives_the_defaults(tmp_path):
    for text in ("", "\n# nothing\n", "---\n", "~"):
        (tmp_path / "mine.yaml").write_text(text)
        assert load_config(tmp_path / "mine.yaml") == load_config()
