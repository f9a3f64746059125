"""Actions on schedules, and their views."""
