"""Reading the weight files that people have, without PyTorch, and the names and layouts inside them."""
