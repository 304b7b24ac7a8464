"""The doctor's findings on made-up environments."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tools import doctor


def _levels(findings):
    return [(finding.level, finding.subject) for finding in findings]


def test_pins_are_those_of_this_python(tmp_path, monkeypatch):
    path = tmp_path / "requirements.txt"
    path.write_text('# why\na==1.0\nb==2.0; python_version >= "3.11"\nb==1.5; python_version < "3.11"\nc-d==3\n')
    monkeypatch.setattr(sys, "version_info", (3, 10, 4, "final", 0))
    assert list(doctor.pinned(path)) == [("a", "1.0"), ("b", "1.5"), ("c-d", "3")]
    monkeypatch.setattr(sys, "version_info", (3, 12, 0, "final", 0))
    assert list(doctor.pinned(path)) == [("a", "1.0"), ("b", "2.0"), ("c-d", "3")]


def packages_found(tmp_path, monkeypatch, pinned, versions):
    """The findings where requirements.txt says `pinned` and the packages of `versions` are installed."""

    def version(name):
        if name not in versions:
            raise doctor.metadata.PackageNotFoundError(name)
        return versions[name]

    path = tmp_path / "requirements.txt"
    path.write_text(pinned)
    monkeypatch.setattr(doctor.metadata, "version", version)
    return list(doctor.check_packages(path))


def test_packages(tmp_path, monkeypatch):
    pinned, versions = "here==1.0\nother==2.0\nabsent==3.0\n", {"here": "1.0+cpu", "other": "2.5"}
    found = packages_found(tmp_path, monkeypatch, pinned, versions)
    assert _levels(found) == [("note", "other"), ("fault", "packages"), ("ok", "packages")]
    assert "2.5; the tests ran with 2.0" in found[0].text
    assert "absent" in found[1].text
    assert found[2].text.startswith("1 as pinned")


def test_a_package_may_stand_in_and_those_for_the_tests_may_be_absent(tmp_path, monkeypatch):
    """tools/setup_env.sh installs OpenCV without windows where the system lacks their libraries; av is not needed."""
    pinned, versions = (
        "opencv-python==5.0\nruff==1.0\npytest==2.0\nav==3.0\n",
        {"opencv-python-headless": "5.0", "pytest": "2.0"},
    )
    found = packages_found(tmp_path, monkeypatch, pinned, versions)
    assert _levels(found) == [("note", "packages"), ("ok", "packages")]
    assert found[0].text == "not installed: ruff"
    assert found[1].text.startswith("2 as pinned")


def test_old_python(monkeypatch):
    monkeypatch.setattr(sys, "version_info", (3, 8, 1, "final", 0))
    assert _levels(doctor.check_python()) == [("fault", "Python")]


def test_missing_extension_names_the_command(monkeypatch):
    monkeypatch.setitem(sys.modules, "lib.ops", None)  # importing it raises ImportError now
    (finding,) = doctor.check_extension()
    assert finding.level == "fault"
    assert "pip install --no-build-isolation -e ." in finding.cure


def test_configured_paths(tmp_path):
    overrides = [f"dataset.dataset_path={tmp_path}", f"network.pretrained={tmp_path / 'weights.pth'}"]
    found = list(doctor.check_configured(None, overrides))
    assert _levels(found) == [("note", "data set"), ("note", "backbone weights")]
    assert all(finding.cure for finding in found)
    for name in ("Annotations", "Data", "ImageSets"):
        (tmp_path / name).mkdir()
    (tmp_path / "weights.pth").touch()
    (tmp_path / "ImageSets" / "VID_val_videos.txt").write_text("val/a 1 0 12\n")
    overrides.append("dataset.image_set=DET_train_30classes")
    assert _levels(doctor.check_configured(None, overrides)) == [
        ("ok", "data set"),
        ("note", "image set DET_train_30classes"),
        ("ok", "image set VID_val_videos"),
        ("ok", "backbone weights"),
    ]


@pytest.mark.parametrize("suffix", ["pth", "params"])
def test_weights_by_the_originals_prefix_and_epoch(tmp_path, suffix):
    """As the configurations of ImageNet VID name them: a prefix, for which either kind of file will do."""
    overrides = [f"network.{key}={tmp_path / name}" for key, name in (("pretrained", "r101"), ("pretrained_flow", "f"))]
    overrides += ["network.pretrained_epoch=3", f"network.pretrained_model={tmp_path / 'rfcn.pth'}"]

    def found():
        return [finding for finding in doctor.check_configured(None, overrides) if "weights" in finding.subject]

    subjects = ["detector weights", "backbone weights", "flow network weights"]
    assert _levels(found()) == [("note", subject) for subject in subjects]
    assert f"{tmp_path / 'r101-0003.pth'}: no such file (nor r101-0003.params)" in [finding.text for finding in found()]
    for name in (f"r101-0003.{suffix}", f"f-0003.{suffix}", "rfcn.pth"):
        (tmp_path / name).touch()
    assert _levels(found()) == [("ok", subject) for subject in subjects]
    assert [finding.text for finding in found()][1] == str(tmp_path / f"r101-0003.{suffix}")


def test_weights_of_torchvision_are_not_called_missing(tmp_path, monkeypatch):
    monkeypatch.setattr("torch.hub.get_dir", lambda: str(tmp_path))

    def found(name):
        overrides = [f"network.pretrained=torchvision:{name}"]
        return next(f for f in doctor.check_configured(None, overrides) if f.subject == "backbone weights")

    before = found("ResNet101_Weights.IMAGENET1K_V1")
    assert before.level == "ok"
    assert "not here yet; the first training downloads it to" in before.text
    path = Path(before.text.rpartition(" to ")[2])
    path.parent.mkdir(parents=True)
    path.touch()
    assert found("ResNet101_Weights.IMAGENET1K_V1").text.endswith(f"downloaded already, {path}")
    unknown = found("ResNet101_Weights.V9")
    assert (unknown.level, "none of torchvision's ResNet weights" in unknown.text) == ("note", True)


def test_a_prefix_that_is_a_folder_is_no_file(tmp_path):
    (tmp_path / "r101").mkdir()
    found = list(doctor.check_configured(None, [f"network.pretrained={tmp_path / 'r101'}"]))
    assert ("note", "backbone weights") in _levels(found)


def test_bad_configuration_is_a_finding():
    (finding,) = doctor.check_configured("absent.yaml", [])
    assert finding.level == "fault"
    assert "absent.yaml" in finding.text


def test_the_last_line_counts_what_the_configuration_lacks(tmp_path, monkeypatch, capsys):
    """Which is no fault: the exit status is that of the installation."""
    for name in ("python", "packages", "torch", "extension", "video"):
        monkeypatch.setattr(doctor, f"check_{name}", lambda: iter(()))
    where = [f"dataset.dataset_path={tmp_path}", f"network.pretrained={tmp_path / 'weights.pth'}"]
    cfg = tmp_path / "my.yaml"
    cfg.write_text("dataset: {image_set: VID_train, test_image_set: VID_val}\n")

    def last_line(status):
        assert doctor.main(["--cfg", str(cfg), *where]) == status
        return capsys.readouterr().out.splitlines()[-1]

    complete = "The installation is complete."
    assert last_line(0) == f"{complete} Missing for the configuration ({cfg}): 2 (see the notes above)."
    for name in ("Annotations", "Data", "ImageSets"):
        (tmp_path / name).mkdir()
    (tmp_path / "ImageSets/VID_train.txt").write_text("train/a 1 0 12\n")
    assert last_line(0) == f"{complete} Missing for the configuration ({cfg}): 2 (see the notes above)."
    (tmp_path / "ImageSets/VID_val.txt").write_text("val/a 1 0 12\n")
    (tmp_path / "weights.pth").touch()
    assert last_line(0) == f"{complete} What the configuration names is there."
    cfg.write_text("no_such_key: 1\n")
    assert last_line(1) == "Faults to fix: 1."


def test_check_that_cannot_run_does_not_stop_the_others(monkeypatch, capsys):
    def needs_a_package():
        raise ImportError("No module named 'cv2'")
        yield

    monkeypatch.setattr(doctor, "check_video", needs_a_package)
    monkeypatch.setattr(doctor, "check_torch", lambda: iter(()))
    assert doctor.main([]) == 1
    printed = capsys.readouterr().out
    assert "fault video: cannot be checked: No module named 'cv2'" in printed
    assert "data set" in printed


def test_missing_system_library_names_its_package(monkeypatch):
    def needs_a_library():
        raise ImportError("libGL.so.1: cannot open shared object file: No such file or directory")
        yield

    monkeypatch.setattr(doctor, "check_video", needs_a_library)
    (finding,) = (finding for finding in doctor.findings(None, []) if finding.subject == "video")
    assert "apt install libgl1" in finding.cure


@pytest.mark.parametrize("name", ["mp4", "webm"])
def test_video_is_tried_out(name):
    assert ("ok", True) in [(level, subject.endswith(name)) for level, subject in _levels(doctor.check_video())]
