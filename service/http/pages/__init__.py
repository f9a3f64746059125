"""What every page of ours is made of: the template around it, its headers, files and cookies."""
