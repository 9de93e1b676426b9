"""Machinery that knows neither a loss nor a library: rules, the layout of rows, blocks."""
