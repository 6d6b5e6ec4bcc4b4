"""What packages have beyond the sources: manual pages, completion, changelogs, and the staged tree.

Pages and completion are made of the command's own argparse parsers and of the shipped configuration
file, so that they say what ``--help`` and the file say. Only the standard library and the package
itself are needed, as a package is built offline.
"""
