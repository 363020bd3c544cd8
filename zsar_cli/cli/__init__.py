"""The command line: parse, make a configuration, make one call, show the result. The only room that prints."""
