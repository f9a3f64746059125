"""Pages for people: routes, views, templates and static files, on the reads that the tools use."""
