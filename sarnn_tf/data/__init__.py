"""The data that SARNNs are trained on: recorded episodes, made ready once, and batches of them.

::

    source = open_source(path)                                     RLDS, NPZ episodes, EIPL's arrays
    prepared = prepare(source, modalities, clip, cache_folder)     resized, CLIP computed; kept on the disk
    parts = make_parts(prepared)                                   .train, .test: numbers of episodes
    for batch in batches(prepared, description, parts.train, 4, seed=seed, epoch=epoch): …
"""

from sarnn_tf.data.batch import Batch
from sarnn_tf.data.batches import batches, num_batches
from sarnn_tf.data.parts import Parts, make_parts
from sarnn_tf.data.prepare import make_prepared, prepare
from sarnn_tf.data.prepared import PreparedData, PreparedEpisode
from sarnn_tf.data.source import EpisodeSource, RecordedEpisode, make_source, open_source

__all__ = [
    "Batch",
    "EpisodeSource",
    "Parts",
    "PreparedData",
    "PreparedEpisode",
    "RecordedEpisode",
    "batches",
    "make_parts",
    "make_prepared",
    "make_source",
    "num_batches",
    "open_source",
    "prepare",
]
