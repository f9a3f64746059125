"""Why a job failed, and what to do next, from its log and its message."""
