"""Array libraries: the only modules that depend on which one is in use."""
