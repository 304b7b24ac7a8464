"""Comparing this code with the numbers recorded from the originals, one module per family of recordings.

`tools/check_parity.py` is the command. The recordings and their tolerances are described in the README.md beside them.
"""
