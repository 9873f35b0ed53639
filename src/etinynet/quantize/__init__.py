"""Float to integers: layers, weights, activation scales, correction, lowering to the graph."""
