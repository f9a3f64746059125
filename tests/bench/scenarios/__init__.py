"""What is measured: one module for each scenario of `python3 -m tests.bench`."""
