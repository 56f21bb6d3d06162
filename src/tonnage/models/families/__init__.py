"""Families of models, each as data."""
