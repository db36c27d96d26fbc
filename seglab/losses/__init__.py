"""Segmentation losses: `loss(logits, target) -> ()`, one file per family.

Most losses of the overlap and cross-entropy families are functions of the few sums in sums.py.

What scripts/check_loss.py checks, and a loss does not promise, it says itself: `not_promised`, a
dict from the name of the check to the reason. Its lowest value is 0, or stands in `optimum` (None
where it depends on the image).
"""
