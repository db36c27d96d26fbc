"""The tables of the papers and of our runs: one file per table."""
