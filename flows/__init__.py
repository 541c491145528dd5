"""Prefect flows over the plain functions of geodiff: retries and schedules, no arrays."""

import os

# Prefect reads this when it is imported. What is filled here is nobody else's business; set it to 0 to think otherwise.
os.environ.setdefault("DO_NOT_TRACK", "1")
