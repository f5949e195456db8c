"""Files: JSON and YAML as users bring them, and files that are written whole or not at all."""
