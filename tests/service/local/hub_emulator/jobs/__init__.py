"""Tests of service/local/hub_emulator/jobs."""
