"""`subscriptions/listen`: the topics of a client, and the notifications it gets."""
