"""The networks: SARNN, CLIP-SARNN, and what they are put together from."""
