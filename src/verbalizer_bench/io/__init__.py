"""JSON and YAML with precise errors, kinds of records, atomic writes, append-only logs, locks."""
