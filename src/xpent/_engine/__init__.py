"""Infrastructure that is independent of losses and array libraries: rules, the layout of rows, blocks."""
