"""The files of a series become frames, and frames one regular grid of values."""
