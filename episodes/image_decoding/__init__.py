"""The pixels of ROS image messages; ``episodes.images`` is the door."""
