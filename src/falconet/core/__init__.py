"""The words everybody uses: data types, boxes, resizing, selection, configuration. No torch."""
