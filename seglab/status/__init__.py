"""Where a grid of runs stands, and what is left of it. Reads records; trains nothing, but to probe.

cells.py lists what a command line asks for, shelf.py what lies in the results folder, standing.py
judges the one by the other, forecast.py adds up what is left, probe.py measures a few steps where
no run tells, show.py prints.
"""
