"""A right implementation in NumPy, and wrong ones that differ from it in one step each; the kit tells them apart."""

from gallery import accuracy, broken, calls, derivatives, labels, layouts, others, reductions, weights
from gallery.catalogue import GALLERY, HEAVY, implementation
from gallery.right import CrossEntropy, LinearCrossEntropy, LogSoftmax, LogSumExp, Softmax

ROOMS = (accuracy, labels, weights, broken, reductions, layouts, derivatives, calls, others)
RIGHT = (CrossEntropy, LinearCrossEntropy, Softmax, LogSoftmax, LogSumExp)

__all__ = ["GALLERY", "HEAVY", "RIGHT", "ROOMS", "implementation"]
