"""What a training step is made of: losses, their schedule, gradients, optimiser."""
