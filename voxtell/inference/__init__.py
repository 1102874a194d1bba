"""Runs the network over a whole image: preparation, windows, memory, blending, assembly on the caller's grid.

The way of one image (S, A, R) and its prompts through the modules:

    hounsfield  doubts the values of the image, if they are not Hounsfield units
    preprocess  image -> field: cropped to the foreground, resampled, normalized, padded to the window size
    memory      how many prompts go together, and where their sums are held
    tiling      window after window -> blended logits, row by row
    runner      ties these together; encodes each window once and decodes each prompt in it
    assembly    blended rows -> the caller's array, on its own grid
    shortcuts   what may be left out of all this; openmp: how torch's threads wait
"""
