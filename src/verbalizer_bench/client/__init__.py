"""Ask an endpoint: requests, limits, retries, what a response says, and the store of responses."""
