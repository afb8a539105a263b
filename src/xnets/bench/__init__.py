"""Experiments and benchmarks: each makes rows, a CSV named by its conditions, and a picture."""
