"""Views of jobs, costs, files and failures, with the sentences about them."""
