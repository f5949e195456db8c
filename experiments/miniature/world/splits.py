"""The three disjoint splits of everything: `train`, `choose` (steers the base), `test` (scored)."""

import hashlib

SPLITS = ("train", "choose", "test")


def split_of(text: str) -> str:
    """Return the split that a text belongs to, by its sha256: 8 tenths, 1 tenth, 1 tenth."""
    digest = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") % 10
    return {0: "test", 1: "choose"}.get(digest, "train")
