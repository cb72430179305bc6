"""What a network costs: counted layer by layer, and measured beside what this machine could do.

`layers` counts, `measure` holds that against what the machine can do (`falconet.runtime.roofline`), `scatter` draws
accuracy over time.
"""
