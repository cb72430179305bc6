"""What a network costs: counted layer by layer, and measured beside what this machine could do.

`layers` counts, `roofline` measures the machine, `measure` brings both together, `scatter` draws accuracy over time.
"""
