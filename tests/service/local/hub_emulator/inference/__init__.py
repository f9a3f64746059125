"""Tests of service/local/hub_emulator/inference."""
