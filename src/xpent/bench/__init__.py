"""How fast xpent is on this machine, beside what one would have used instead and the limit, a plain copy."""
