"""From streams of episodes to a published data set: staging, shards, manifest, the resumable run."""
