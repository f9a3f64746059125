"""What is seen of jobs and workers from outside: changes, heartbeats, numbers about the queues."""
