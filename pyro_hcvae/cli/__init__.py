"""The command line. One small file a command; each is a thin layer over the library."""
