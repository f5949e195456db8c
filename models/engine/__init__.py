"""The generation engine: greedy and beam search that compute a shared prefix once."""
