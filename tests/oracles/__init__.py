"""Closed forms written from the papers, in plain PyTorch and without lossc: what the library is compared with."""
