"""Reading JSON and YAML with precise errors, atomic writes, append-only logs, locks."""
