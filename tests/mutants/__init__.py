"""Proof that the tests protect the guards of the code: without any one of them, a test fails."""
