"""What a plan has to do, and how long that takes here or on other hardware."""
