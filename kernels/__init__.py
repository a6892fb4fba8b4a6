"""Triton kernels, one operation a file. Imported as fastsel.kernels."""
