"""Prefect flows over the plain functions of geodiff: retries and schedules, no arrays."""
