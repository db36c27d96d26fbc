"""Networks: (B, 3, H, W) normalised images -> (B, C, H, W) logits, one file per origin."""
