"""Proof that the tests guard the guards: without any one of them, a test fails."""
