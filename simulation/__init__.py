"""Plates of food drawn by rule: the embedded data set of the food task. No model, no TensorFlow."""
