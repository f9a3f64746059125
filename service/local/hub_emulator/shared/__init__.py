"""What several APIs of the emulated Hub share: access, links, pages, file paths."""
