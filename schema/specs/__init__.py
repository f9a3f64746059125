"""What a job is asked to do: one validated specification for each kind of job."""
