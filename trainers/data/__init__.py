"""From files of records to batches: cache, image check, sampler, collator."""
