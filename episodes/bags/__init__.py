"""Reading ROS 1 and ROS 2 bags without ROS: finding, opening, streaming, salvage."""
