"""One attempt of a job: carry it out, turn errors into outcomes, write the result."""
