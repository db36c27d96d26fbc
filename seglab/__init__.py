"""seglab: a bench for segmentation losses."""

__version__ = "0.1.0"
