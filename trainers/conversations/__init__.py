"""From a record to token ids, and which of them are trained: formats, assistant masks."""
