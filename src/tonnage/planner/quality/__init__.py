"""What fewer bits cost: estimates, measured figures, and the allocation of formats."""
