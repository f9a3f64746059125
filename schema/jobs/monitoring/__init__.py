"""What operators see of jobs and workers: heartbeats, and numbers about the queues."""
