"""What the tests of this folder share."""

from tests.helpers.endpoint_fixtures import key, serve

__all__ = ["key", "serve"]
