"""Works on masks on the slices of a series: post-processing, packing, measuring, outlining, drawing.

A mask is bool (slices, rows, columns), in the slice order of `dicom_node.series.ImageSeries`.
"""
