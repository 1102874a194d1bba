"""Turns the files of a series into frames, and frames into one regular grid of values.

The way of a series: `structure` and `inflate` bound what a header may hold; `headers` reads it, and `headerless` tells
the transfer syntax of files without a Part 10 header; `frames` makes of headers one flat list of image planes;
`volumes_of_series` separates phases, echoes and b-values; `grid` proves that the planes of one volume form a regular
grid; `announced` bounds the pixels by what their header announces, and `pixels` decodes and rescales them.

`differences` names the attributes in which two files that claim to be one instance differ; `pydicom_errors` names what
pydicom raises for damaged bytes.
"""
