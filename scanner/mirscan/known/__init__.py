"""Known precursors: read, grouped, compared with hairpins."""
