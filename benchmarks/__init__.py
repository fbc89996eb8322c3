"""Benchmarks: check that both sides compute the same, then time them in turn, in one process.

`python -m benchmarks training` from the checkout. Absolute times belong to the machine and the
moment; the ratio of two sides that took turns is what can be quoted.
"""
