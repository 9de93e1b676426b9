"""A conformance kit for cross-entropy, in any library: what is right, what is not and by how much, case by case."""
