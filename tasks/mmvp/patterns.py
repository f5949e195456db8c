"""The nine visual patterns of Tong et al. 2024 (section 3.1), and who assigns questions to them."""

from collections.abc import Mapping
from types import MappingProxyType

# MMVP itself says of no question which pattern it has. The codes are those of AMVICC's copy of the
# questions (column Category); that they mean these names is our reading.
PATTERNS: Mapping[str, str] = MappingProxyType(
    {
        "od": "orientation and direction",
        "pf": "presence of specific features",
        "sc": "state and condition",
        "qc": "quantity and count",
        "pr": "positional and relational context",
        "ca": "color and appearance",
        "sh": "structural and physical characteristics",
        "tx": "text",
        "vp": "viewpoint and perspective",
    }
)
NAMES = tuple(PATTERNS.values())


def pattern_named(text: str) -> str:
    """Return the pattern of a code or a name, in whatever case.

    Raises:
        ValueError: There is no such pattern.
    """
    plain = " ".join(text.split()).casefold()
    name = PATTERNS.get(plain, plain)
    if name not in NAMES:
        known = ", ".join(f"{code} ({name})" for code, name in PATTERNS.items())
        raise ValueError(f"{text!r} is no pattern of MMVP; give one of {known}, or leave it empty")
    return name
