"""What ``doctor`` looks at: a table of faults, and a module of looks for each subject."""
