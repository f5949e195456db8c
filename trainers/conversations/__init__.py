"""From a record to token ids and assistant mask: records, formats, the encoder."""
