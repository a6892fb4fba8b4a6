"""Recursive training of diffusion models with selection in the loop.

``python -m training.recursive`` is the command; the modules are its parts, each usable alone. To
find the way, read ``recursive.py`` and then ``generation.py``, which has the four phases of a
generation; docs/architecture.md says what every module is for.
"""
