"""What several tests use: servers, fakes, users, and the steps of workers."""
