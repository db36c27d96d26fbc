"""Data sets. One file per data set; `source` is what they share."""
