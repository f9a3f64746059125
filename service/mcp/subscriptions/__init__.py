"""`subscriptions/listen`: which resources a client follows, and what it is sent."""
