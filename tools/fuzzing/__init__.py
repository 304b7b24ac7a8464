"""Hostile inputs for everything that a user feeds the project, and what each may end in (tools/fuzz.py).

attempts.py says what an input is and judges how it ended; kinds.py lists the kinds, each of which is a file here;
worker.py tries inputs in a process of its own, which runner.py watches. tests/robustness runs the same inputs.
"""
