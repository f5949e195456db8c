"""When does tuning hurt? The arms in miniature, evaluated while they are tuned."""
