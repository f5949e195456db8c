"""The training loop: trainers, schedule, resume states, memory, losses that are not finite."""
