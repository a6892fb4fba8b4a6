"""Recursive training of diffusion models with selection in the loop.

``python -m training.recursive`` is the command; the modules are its parts, each usable alone.
"""
