"""What each command takes, in modules that are imported with the command."""
