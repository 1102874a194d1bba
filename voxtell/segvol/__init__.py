"""SegVol: a network that segments by text, box and points, coarsely on the whole image first, then in windows.

Grids and indices are (D, H, W), index 0 slowest, as the network was trained; coordinates of boxes and points count
voxels of the window that the network sees.
"""
