"""Segmentation engines on this node: their models, their devices, and how the one of a job is loaded."""
