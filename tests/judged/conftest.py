"""A server on the loopback address, and a key that is none."""

from tests.helpers.endpoint_fixtures import key, serve

__all__ = ["key", "serve"]
