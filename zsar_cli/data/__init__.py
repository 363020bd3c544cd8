"""What goes in: paths to inputs, and folders or tables to labelled data sets."""
