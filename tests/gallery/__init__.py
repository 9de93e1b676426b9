"""A correct implementation in NumPy and defective ones, each with one defect, to test the conformance suite."""

from gallery import accuracy, calls, derivatives, labels, layouts, nonfinite, others, reductions, weights
from gallery.catalogue import GALLERY, HEAVY, implementation
from gallery.correct import CrossEntropy, LinearCrossEntropy, LogSoftmax, LogSumExp, Softmax

MODULES = (accuracy, labels, weights, nonfinite, reductions, layouts, derivatives, calls, others)
CORRECT = (CrossEntropy, LinearCrossEntropy, Softmax, LogSoftmax, LogSumExp)

__all__ = ["CORRECT", "GALLERY", "HEAVY", "MODULES", "implementation"]
