"""Many pictures, from wherever they lie, into tables: `falconet batch`. No torch."""
