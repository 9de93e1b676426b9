"""The mathematics: softmax, cross-entropy and its linear layer, each with its derivatives."""
