"""Boxes and frames in other layouts, turned into this project's data set layout (data/README.md)."""
