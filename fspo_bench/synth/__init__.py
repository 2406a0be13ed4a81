"""Synthetic preferences: made of a domain, and measured."""
