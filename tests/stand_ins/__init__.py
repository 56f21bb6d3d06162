"""Local stand-ins for the services that models come from; nothing here leaves this machine."""
