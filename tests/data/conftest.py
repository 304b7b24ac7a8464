"""The data sets that the tests of lib/data read."""

from pathlib import Path

import pytest

from tests.data.toy_vid import picture, write_toy


@pytest.fixture
def toy(tmp_path) -> Path:
    """A fresh copy of the toy data set, free to be changed."""
    return write_toy(tmp_path / "toy")


@pytest.fixture(scope="session")
def recorded_vid(tmp_path_factory, golden):
    """A function (method) -> the recorded set `loops_<method>_public`, and its data set on disk."""
    import cv2

    def make(method: str):
        recorded = golden(f"loops_{method}_public")
        root = tmp_path_factory.mktemp(f"recorded_{method}")
        for text in recorded["annotation_files"]:
            relative, content = str(text).split("\n", 1)
            annotation, image = root / "Annotations" / relative, (root / "Data" / relative).with_suffix(".JPEG")
            for path, data in (
                (annotation, content.encode()),
                (image, cv2.imencode(".jpg", picture(relative))[1].tobytes()),
            ):
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(data)
        (root / "ImageSets").mkdir()
        lists = {"VID_val_videos": "list_val", "VID_train_15frames": "list_train", "DET_train_30classes": "list_det"}
        for name, key in lists.items():
            (root / "ImageSets" / f"{name}.txt").write_text("\n".join(recorded[key].tolist()) + "\n")
        return recorded, root

    return make
