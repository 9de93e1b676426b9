"""The mathematics, written once against the Python array API standard."""
