//! What only the embedded store promises: what it finds when it opens, and what it survives.
