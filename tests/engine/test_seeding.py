import random

import numpy as np
import torch

from lib.engine.seeding import batch_rng, batch_seed, seed_everything


def test_all_generators_are_seeded():
    drawn = []
    for seed in (5, 5, 6):
        seed_everything(seed)
        drawn.append((random.random(), np.random.rand(), float(torch.rand(()))))
    assert drawn[0] == drawn[1]
    assert all(a != b for a, b in zip(drawn[1], drawn[2], strict=True))
    assert torch.are_deterministic_algorithms_enabled()
    seed_everything(5, deterministic=False)
    assert not torch.are_deterministic_algorithms_enabled()


def test_every_place_has_numbers_of_its_own():
    places = [(seed, update, batch) for seed in (0, 1) for update in (1, 2, 300) for batch in (0, 1, 2)]
    drawn = {place: tuple(batch_rng(*place).randint(0, 2**31, 4)) for place in places}
    assert len(set(drawn.values())) == len(places)
    assert drawn[1, 2, 1] == tuple(batch_rng(1, 2, 1).randint(0, 2**31, 4))
    seeds = {batch_seed(seed, update, batch) for seed in (-1, 0, 1) for update in range(20) for batch in range(5)}
    assert len(seeds) == 300
    torch.manual_seed(batch_seed(2**40, 2**33, 2**33))  # within what torch takes
