"""Benchmarks: check that all sides compute the same, then time them in turn.

From the checkout, `python -m benchmarks` and

    kernels     convolutions, products and memory-bound operators, one by one
    ladder      each rung of the product and the convolution, and the machine's two roofs
    models      inference with whole networks
    training    their training steps
    compare     two --json files: what got slower beyond the noise
    memory      the most memory that a training step takes, network by network
    digits      every small network trained on MNIST

Absolute times belong to the machine and the moment; the ratio of two sides that took turns is what
can be quoted. `timing` is the skeleton of all that is timed. It reads in this order: `timing`,
`layers` and `operators` (the work, and what is right), `kernels`, `ladder`; then `networks`,
`engines`, `pytorch`, `others`, `worker`, `workers`, `models`; `gpu` where there is one; `report`,
`compare` and `plots` show what was found.
"""
