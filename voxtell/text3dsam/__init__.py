"""Text3DSAM: a network that segments a whole volume at once by text, roughly first, then by looking at its own mask.

Grids are (D, H, W), index 0 slowest, as the network was trained.
"""
