"""From files of records to batches: the cache, images, the order of an epoch, the collator."""
