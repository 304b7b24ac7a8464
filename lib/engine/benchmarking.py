"""Time methods side by side, in turns, so that a drift of the machine's speed affects all of them alike."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from statistics import median

import numpy as np
import torch

from lib.data.transforms import Preprocessing
from lib.engine.device import wait_for
from lib.engine.inference import LiveDetection
from lib.engine.memory import held_gib, peak_device_gib, peak_host_gib, reset_peak
from lib.models.flops import PartFlops
from lib.models.postprocess import PostProcess
from lib.models.precision import set_precision
from lib.models.video_model import VideoModel
from lib.structures import Frame


@dataclass
class Contender:
    """One setting of one method, and its measurements in milliseconds per frame.

    precision: set again before each turn, for TF32 is a setting of the whole process. flops: of its parts.
    frames_a_turn: frames that a turn takes, a whole number of key-frame intervals in DFF. flows: of each frame between
    two key frames. batch_images: frames that go through the networks together: 1 is the stream mode, more the segment
    mode. averaged: frames that FGFA averages.
    held_gib: GPU memory that its model and its clip hold, to tell it from that of the other contenders.
    """

    name: str
    model: VideoModel
    postprocess: PostProcess
    preprocess: Preprocessing
    device: torch.device
    precision: str
    flops: PartFlops
    frames_a_turn: int
    batch_images: int = 1
    interval: float = 1.0
    flows: float = 1.0
    averaged: float = 0.0
    held_gib: float = 0.0
    totals: list[float] = field(default_factory=list)
    data: list[float] = field(default_factory=list)
    net: list[float] = field(default_factory=list)
    post: list[float] = field(default_factory=list)
    key: list[float] = field(default_factory=list)
    nonkey: list[float] = field(default_factory=list)
    device_mb: float | None = None

    def begin(self, frames: Iterator[np.ndarray]) -> None:
        """Warm up: fill the window, let the kernels tune and pack. frames: (H, W, 3) uint8, endless."""
        self._frames, self._count = frames, 0
        set_precision(self.precision, self.device)
        before = held_gib(self.device)
        self._live = LiveDetection(self.model, self.postprocess, self.batch_images)
        lead = int(self.averaged) + self.batch_images
        for _ in range(lead + self.frames_a_turn if self.averaged else self.frames_a_turn):
            self.step()
        wait_for(self.device)
        self.held_gib += held_gib(self.device) - before

    def turn(self) -> None:
        """Detect in `frames_a_turn` frames and note the times."""
        timing = self._live.timing
        before = (timing.net, timing.post)
        set_precision(self.precision, self.device)
        others = held_gib(self.device) - self.held_gib
        reset_peak(self.device)
        wait_for(self.device)
        reading = 0.0
        start = time.perf_counter()
        for _ in range(self.frames_a_turn):
            began = time.perf_counter()
            frame = self._frame()
            read = time.perf_counter()
            answers = self._live.add(frame)
            wait_for(self.device)
            reading += read - began
            if self.batch_images == 1 and answers and answers[0][0].key_frame is not None:
                times = self.key if answers[0][0].key_frame else self.nonkey
                times.append(1000 * (time.perf_counter() - read))
        per_frame = 1000 / self.frames_a_turn
        self.totals.append((time.perf_counter() - start - reading) * per_frame)
        self.data.append(reading * per_frame)
        self.net.append((timing.net - before[0]) * per_frame)
        self.post.append((timing.post - before[1]) * per_frame)
        peak = peak_device_gib(self.device)
        self.device_mb = None if peak is None else max(self.device_mb or 0.0, 1024 * (peak - others))

    def _frame(self) -> Frame:
        index = self._count
        self._count += 1
        return self.preprocess(next(self._frames), frame_id=index + 1, first=index == 0, index=index)

    def step(self) -> None:
        """Take one more frame."""
        self._live.add(self._frame())

    @property
    def ms_per_frame(self) -> float:
        """Median over the turns; reading and resizing excluded."""
        return median(self.totals)

    @property
    def flops_per_frame(self) -> float:
        """Floating-point operations of one frame on average."""
        if not self.flops.flow:
            return self.flops.rfcn()
        return self.flops.fgfa(self.averaged) if self.averaged else self.flops.dff(self.interval, self.flows)


@dataclass
class MatmulPeak:
    """The fastest matrix product of the machine in the precision of the networks, measured between the turns."""

    device: torch.device
    precision: str
    best_gflops: float = 0.0

    def turn(self) -> None:
        """Three products on a GPU; on the CPU also three as a 1x1 convolution of oneDNN, which may be the faster."""
        side, dtype = 8192 if self.device.type == "cuda" else 1536, set_precision(self.precision, self.device)
        a = torch.randn(side, side, device=self.device).to(dtype)
        products = [lambda: torch.mm(a, a)]
        if self.device.type == "cpu":
            x = a.T.reshape(1, side, side // 32, 32).contiguous(memory_format=torch.channels_last)
            products.append(lambda: torch.nn.functional.conv2d(x, a[:, :, None, None]))
        for product in products:
            product()
            for _ in range(3):
                wait_for(self.device)
                start = time.perf_counter()
                product()
                wait_for(self.device)
                self.best_gflops = max(self.best_gflops, 2 * side**3 / (time.perf_counter() - start) / 1e9)


def random_frames(height: int, width: int, seed: int = 0, number: int = 8) -> Iterator[np.ndarray]:
    """Yield smooth random frames (H, W, 3) uint8 without end, each a little different from the one before."""
    import cv2

    rng = np.random.RandomState(seed)
    large = cv2.resize(rng.randint(0, 255, (height // 16 + 2, width // 16 + 2, 3), np.uint8), (width + 64, height + 64))
    frames = [np.ascontiguousarray(large[i : i + height, 2 * i : 2 * i + width]) for i in range(number)]
    while True:
        yield from frames


def run_rounds(contenders: Sequence[Contender], peaks: Sequence[MatmulPeak], rounds: int, show=lambda: None) -> None:
    """Give every contender, and every matrix product, its turn in each round."""
    for _ in range(rounds):
        for one in (*contenders, *peaks):
            one.turn()
        show()


def host_mb() -> float | None:
    """Peak memory of this process in MB."""
    peak = peak_host_gib()
    return None if peak is None else 1024 * peak
