"""Segmentation losses: `loss(logits, target) -> ()`, one file per family.

Every loss of the overlap and cross-entropy families is a function of the few sums in sums.py.
"""
