"""EIPL's PyTorch checkpoints, read and written without PyTorch."""
