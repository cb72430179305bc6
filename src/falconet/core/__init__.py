"""The words everybody uses: data types, boxes, resizing, selection, configuration. NumPy and OpenCV only."""
