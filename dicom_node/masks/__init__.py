"""Masks on the slices: finished, packed, measured, outlined, drawn."""
