"""Motion generation: step after step on a robot, or over what was recorded; and pictures of it."""
