"""What several tests stand on: servers, fakes, users, and steps of workers."""
