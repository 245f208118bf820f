"""What every room needs and no room owns: contracts, small helpers, the switch to legacy Keras.

Importing ``core`` costs nothing: TensorFlow is imported only by ``core.legacy_keras`` and by the
modules that say so.
"""
