"""Validation during training: mean AP on a part of the test set, and pictures of detections on it."""

from __future__ import annotations

import numpy as np
import torch

from lib.data.classes import Classes
from lib.data.transforms import Preprocessing, read_image
from lib.engine.inference import detect_frames, read_ahead
from lib.engine.run import Run
from lib.engine.sharing import share_videos
from lib.engine.testing import open_test_set
from lib.engine.training_state import Training
from lib.evaluation.evaluate import evaluate_table
from lib.evaluation.results_file import DetectionTable
from lib.models.build import build_postprocess
from lib.structures import Detections, Frame
from lib.visualize.draw import draw_detections
from lib.visualize.flow import flow_colours

_PICTURES = 4  # frames drawn in each validation, evenly spaced in the first video
_DRAWN_SCORE = 0.5


class Validation:
    """Call it with a training to evaluate its model on the first TRAIN.VALIDATE_VIDEOS videos of the test set.

    The constructor opens everything that it reads except the images. Several processes share the videos, and all get
    the same figures. Weights, optimiser and random state are not changed; the model is left in evaluation mode.
    """

    def __init__(self, run: Run, classes: Classes) -> None:
        self.run = run
        self.test_set = open_test_set(run, run.cfg.TRAIN.VALIDATE_VIDEOS)
        self.class_names = classes.names
        self.preprocess = Preprocessing.from_config(run.cfg, run.device)
        self.postprocess = build_postprocess(run.cfg, run.method.score_threshold, raw=False)

    @torch.no_grad()
    def __call__(self, training: Training) -> dict[str, float]:
        """`mean_ap`, and `mean_ap_slow`, `_medium`, `_fast` where motion is known, from 0 to 1."""
        model = training.model.eval()
        processes, cfg = self.run.processes, self.run.cfg
        shares = share_videos([video.length for video in self.test_set.videos], processes.size)
        tables: list[DetectionTable] = []
        for number in shares[processes.rank]:
            video = self.test_set.videos[number]
            frames = read_ahead(video.frames(self.preprocess), depth=cfg.TEST.BATCH_IMAGES + 4)
            drawn = set(np.linspace(0, video.length - 1, _PICTURES).astype(int).tolist()) if number == 0 else set()
            with torch.autocast(training.device.type, dtype=training.reduced, enabled=training.reduced is not None):
                answers = detect_frames(model, frames, self.postprocess, cfg.TEST.BATCH_IMAGES, inside=bool(drawn))
                for frame, found in answers:
                    tables.append(DetectionTable.of_frame(frame.frame_id, found))
                    if frame.index in drawn:
                        self._draw(training, frame, found, read_image(video.frame_path(frame.index)))
        gathered = processes.gather_objects(DetectionTable.cat(tables))
        table = DetectionTable.cat(gathered).sorted_by_frame()
        evaluation = evaluate_table(self.test_set.truth, table, self.test_set.motion, self.test_set.chosen)
        names = {"all": "mean_ap", "slow": "mean_ap_slow", "medium": "mean_ap_medium", "fast": "mean_ap_fast"}
        return {names[r.range.name]: float(r.mean_ap) for r in evaluation.results}

    def _draw(self, training: Training, frame: Frame, found: Detections, image: np.ndarray) -> None:
        """Add the frame with its detections, and its flow if it has one, to TensorBoard."""
        if training.curves is None:
            return
        shown = found[found.scores >= _DRAWN_SCORE]
        name = f"frame_{frame.index:06d}"
        picture = draw_detections(image, shown, self.class_names)
        training.curves.add_picture(f"detections/{name}", picture, training.update)
        flow = None if frame.inside is None else frame.inside.flow
        if flow is not None:
            cells = flow[0].float().cpu().numpy()
            colours = flow_colours(cells, longest=max(1.0, float(np.abs(cells).max())))
            training.curves.add_picture(f"flow/{name}", colours.repeat(8, 0).repeat(8, 1), training.update)
