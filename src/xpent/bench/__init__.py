"""Measure the speed of xpent, of other implementations and of a plain copy, which is a lower bound."""
