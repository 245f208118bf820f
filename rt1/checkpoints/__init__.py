"""RT-1's checkpoints: reading every dialect by name, writing the official names.

``python -m rt1.checkpoints inspect PATH`` says what a checkpoint is and whether it would load.
"""
