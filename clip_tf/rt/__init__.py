"""CLIP-RT: the language action that fits an image and an instruction, among those of a vocabulary."""
