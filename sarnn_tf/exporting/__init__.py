"""A policy as one file for the robot: the step that is exported, and the check against the model."""
