"""`holdfast backup` and `holdfast restore`, and the file in a bucket that they may use."""
