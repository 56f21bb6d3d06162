"""What carries a plan out: one package per kind of device."""
