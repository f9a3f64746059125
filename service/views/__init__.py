"""What callers are shown: views of jobs, costs, files and failures, and their sentences."""
