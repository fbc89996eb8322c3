"""Gradient clipping under the name that PyTorch gives it; it lives in `minicnn.optim.clip`."""

from minicnn.optim.clip import clip_grad_norm_, clip_grad_value_

__all__ = ["clip_grad_norm_", "clip_grad_value_"]
