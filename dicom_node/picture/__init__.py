"""Draws masks on an image as one sheet: planes with contours, a legend with volumes, and what a reader must know.

```
sheet      header, panels, legend, footer
panels     title, letters and scale around each plane
drawing    one plane: image, contours, numbers
planes     which planes
lettering  fonts and text
```
"""
