"""What carries jobs out: one module for each kind of job, chosen in `workers.worker`."""
