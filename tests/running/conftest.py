"""What the tests of this folder share."""

from tests.helpers.endpoint_fixtures import serve

__all__ = ["serve"]
