"""The only rooms that know that array libraries differ."""
