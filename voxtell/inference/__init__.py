"""The network over a whole image: preparation, windows, memory, blending, assembly on the caller's grid."""
