"""Whether an implementation is right, case by case, against exact values."""
