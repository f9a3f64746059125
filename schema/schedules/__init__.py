"""Schedules: tables, writes and reads, cron, and the firing of due ones."""
