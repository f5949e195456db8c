"""The training loop: trainers, schedule, resume states, non-finite losses, memory and disk."""
