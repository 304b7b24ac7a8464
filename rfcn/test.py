"""Test R-FCN: detect in every frame of the test set, save the detections, evaluate them.

R-FCN detects in each frame independently, in batches of TEST.BATCH_IMAGES frames.

Example: python rfcn/test.py --cfg configs/rfcn/resnet_v1_18_synthetic_vid.yaml --weights my.pth
"""

from __future__ import annotations

from lib.command_line import run_script
from lib.data.transforms import Preprocessing
from lib.engine.arguments import run_of, test_parser
from lib.engine.inference import detect_frames, read_ahead, with_seq_nms
from lib.engine.testing import TestResults, evaluate_test, folder_suffix, open_test_set
from lib.models.build import build_postprocess
from rfcn.method import METHOD


def main(argv: list[str] | None = None) -> None:
    arguments = test_parser(__doc__).parse_intermixed_args(argv)
    run = run_of(arguments, METHOD)
    batch_images = run.cfg.TEST.BATCH_IMAGES
    with run.testing(folder_suffix(videos=arguments.videos)) as folder:
        with run.processes.main_first():  # it parses the annotations, the others read its cache
            test_set = open_test_set(run, arguments.videos)
        model = run.load_model(test_set.classes)
        preprocess = Preprocessing.from_config(run.cfg, run.device)
        postprocess = build_postprocess(run.cfg, METHOD.score_threshold, raw=arguments.raw or None)
        with TestResults(run, folder, test_set, raw=arguments.raw, redo=arguments.redo) as results:
            for video in results.left:
                frames = read_ahead(video.frames(preprocess), depth=batch_images + 4)
                answers = detect_frames(model, frames, postprocess, batch_images, timing=results.timing)
                for frame, found in answers if arguments.raw else with_seq_nms(answers, run.cfg):
                    results.add(frame, found)
                results.end_video()
        if run.processes.is_main and not arguments.raw:
            evaluate_test(run, folder, test_set)


if __name__ == "__main__":
    run_script(main)
